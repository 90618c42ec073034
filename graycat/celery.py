"""The application that ``celery -A graycat`` finds: settings from the environment."""

import graycat.worker.remote_control  # noqa: F401 (its commands are found by ``celery -A graycat control``)
from graycat.celeryapp import create_celery
from graycat.settings import Settings

app = create_celery(Settings.from_env())
app.set_default()
