"""Windows on other machines: each is a task of a Dask cluster."""
