"""The peers: each module is what one would write with that library, and needs only its own pins."""
