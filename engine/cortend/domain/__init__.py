"""Values of the domain: frozen, parsed at the border, no IO."""
