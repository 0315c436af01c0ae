//! Our own interfaces on the system bus: served by the agent, called by the client, one text for both.
