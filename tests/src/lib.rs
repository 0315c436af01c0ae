//! The rig: throw-away machines with real systemd, podman, D-Bus and polkit.
