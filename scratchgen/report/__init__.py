"""report.html: a run on one page that explains what it shows, holds all its pictures and asks nothing of the network.

`write(folder, recipe, state=…, under_way=…)` makes it anew from what lies in the run folder; `page.py` puts it
together, `pictures.py` chooses and packs what it shows, `words/` says for each model what is seen, and
`recipes/judgements.py` what this run's records say. `take_away` makes pictures for elsewhere when a run is over.
"""

from scratchgen.report.page import write
from scratchgen.report.pictures import take_away

__all__ = ["take_away", "write"]
