"""Large payloads: kept beside Temporal, whose histories hold claims in their place."""
