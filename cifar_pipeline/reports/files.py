"""What the files of a report are called. Read by processes that must not import what draws."""

PAGE = "index.html"
CARD = "README.md"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"
HISTORY = "history.csv"
CONFUSIONS = "confusions.csv"
TABLES = "tables"
PLOTS = "plots"
PARTS = (PAGE, CARD, METRICS, PROVENANCE, HISTORY, CONFUSIONS, TABLES, PLOTS)
"""Files and folders of a report; each is an output of its stage."""

DUPLICATES = "duplicates.parquet"
"""of the asset `test_subsets`"""
