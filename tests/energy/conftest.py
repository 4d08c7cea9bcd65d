from tests.verifier.conftest import bootstrap, module_broker, redis_url

__all__ = ["bootstrap", "module_broker", "redis_url"]
