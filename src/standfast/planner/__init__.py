"""The planner: from a ticket and its context to a plan, every model request and tool call an activity of its own."""
