"""The application that ``celery -A graycat`` finds: settings from the environment."""

# Their commands are found by ``celery -A graycat control``.
import graycat.worker.celery_commands  # noqa: F401
import graycat.worker.remote_control  # noqa: F401
from graycat.celeryapp import create_celery
from graycat.settings import Settings
from graycat.settings.home import keep_private

# Its own command line starts workers, too.
keep_private()
app = create_celery(Settings.from_env())
app.set_default()
