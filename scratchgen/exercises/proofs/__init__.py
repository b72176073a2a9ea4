"""How each exercise is proved: at shapes that tell axes apart, and where the usual mistakes hide."""
