from __future__ import annotations

import json
import sys

from tests.support.helpers import run

ASK = """
import json, sys
from celery import current_app
from graycat.celery import app
loaded = [name for name in ("graycat.tasks.llm", "graycat.engines", "graycat.web") if name in sys.modules]
print(json.dumps([app.conf.broker_url, app.conf.broker_transport_options["visibility_timeout"],
                  app.main, current_app.main, loaded]))
"""


def test_celery_finds_an_application_made_from_the_environment(bare_environment) -> None:
    # Short, whatever runs the tests: a long path's socket lies elsewhere.
    env = bare_environment | {"GRAYCAT_HOME": "/srv/graycat", "GRAYCAT_LEASE_S": "9"}
    result = run([sys.executable, "-W", "error", "-c", ASK], env)
    assert result.returncode == 0, result.stderr
    url, lease_s, name, current, loaded = json.loads(result.stdout)
    assert url == "redis+socket:///srv/graycat/broker/valkey.sock"
    assert (lease_s, name, current) == (9.0, "graycat", "graycat")
    assert loaded == []
