"""One thread for matrix products: those of the tests are small, and threads that wait for each other slow them."""

from threadpoolctl import threadpool_limits

threadpool_limits(1)
