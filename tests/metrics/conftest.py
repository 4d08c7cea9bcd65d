"""The embedded broker and a real Valkey, as the services see them."""

from tests.verifier.conftest import bootstrap, broker, module_broker, redis_url  # noqa: F401 - fixtures
