"""Every failure that Mixpanel, the network, the disk or a person can cause."""
