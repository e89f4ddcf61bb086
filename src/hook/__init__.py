"""What a hook does: observe, plan, act, and tell."""
