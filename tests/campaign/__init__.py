"""Random runs with faults and kills, each checked to the last event."""
