from tests.baselines.conftest import case

__all__ = ["case"]
