import os

os.environ["SAID_BY_CONFIGURATION"] = "yes"
