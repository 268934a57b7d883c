"""From files to typed series and samples: sniffing, readers, roles, services, instances."""
