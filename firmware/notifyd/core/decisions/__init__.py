"""The agent's decisions, one module per subject; `notifyd.core.agent.Agent` joins them."""
