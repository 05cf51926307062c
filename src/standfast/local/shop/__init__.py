"""A sample shop to try Standfast with: schema, data, constraints, playbooks and tickets."""

from standfast.local.shop.loading import load_shop

__all__ = ["load_shop"]
