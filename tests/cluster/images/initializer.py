"""KServe's storage initializer: fetches what each URI names into the folder that follows it."""

import sys
from pathlib import Path

from kserve_storage import Storage
from kserve_storage.logging import configure_logging, logger

configure_logging()
uris, folders = sys.argv[1::2], sys.argv[2::2]
for folder in folders:
    Path(folder).mkdir(parents=True, exist_ok=True)
try:
    Storage.download_files(uris, folders)
except Exception as error:
    logger.error("Storage initialization failed: %s", error)
    sys.exit(1)
