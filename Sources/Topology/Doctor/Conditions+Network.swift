// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension Condition {
  /// What a NIC's function has to be, and what its NIC and its peers have to be set to.
  static let network: [Condition] = [
    Condition(
      device: "function", why: "of a NIC only virtual functions move: a physical one's state is the whole card's"
    ) { device, host in
      guard device.isConnectX else { return nil }
      guard let place = device.place else { return physical(device, host) }
      let offered = device.offeredFunctions.map { ", which has \(device.siblings) of the \($0) that it offers" } ?? ""
      return .ok("it is virtual function \(place.number) of \(place.physicalFunction)\(offered)")
    },
    Condition(
      device: "firmware", why: "older firmware has no migration, or images that newer ones refuse"
    ) { device, _ in
      guard device.isConnectX else { return nil }
      guard let firmware = device.firmware else {
        return .unknown(
          "neither an RDMA device nor devlink says it",
          "devlink dev info pci/\(device.card)")
      }
      let parts = firmware.split(separator: ".").compactMap { Int($0) }
      guard parts.count == 3, parts[0] == firstFirmware[0] else {
        return .unknown(
          "it is \(firmware); only of ConnectX-7 (28.…) is it known which is enough",
          "ask the card's vendor for one with VF migration")
      }
      guard !parts.lexicographicallyPrecedes(firstFirmware) else {
        return .missing(
          "it is \(firmware), and has to be \(firstFirmware.map(String.init).joined(separator: ".")) at least",
          "install newer firmware, for example with mlxfwmanager --online -u, and reset the card")
      }
      return .ok("it is \(firmware)")
    },
    Condition(
      device: "link-layer", why: "ConnectX moves functions of Ethernet links only"
    ) { device, _ in
      guard device.isConnectX, !device.linkLayers.isEmpty else { return nil }
      let evidence = "the ports of \(device.card): \(device.linkLayers.joined(separator: ", "))"
      guard device.linkLayers.contains(where: { $0 != "ethernet" }) else { return .ok(evidence) }
      return .missing(evidence, setting("LINK_TYPE_P1=2", of: device))
    },
    Condition(
      device: "eswitch",
      why: "functions have ports, by which they are made migratable and limited, in switchdev mode only",
      restsOn: ["function"]
    ) { device, _ in
      guard device.isConnectX, let place = device.place else { return nil }
      let command = device.preparing(" --eswitch switchdev") ?? ""
      switch device.switchMode {
      case "switchdev": return .ok("the switch of \(place.physicalFunction) is in switchdev mode")
      case let mode?: return .missing("the switch of \(place.physicalFunction) is in \(mode) mode", command)
      case nil:
        return .unknown(
          "neither devlink nor a representor tells the mode of \(place.physicalFunction)'s switch", command)
      }
    },
    Condition(
      device: "migratable", why: "a function that was not made migratable has features that can't move",
      restsOn: ["eswitch"]
    ) { device, _ in
      guard device.isConnectX, let place = device.place else { return nil }
      let port = "the port of \(place.physicalFunction) with vfnum \(place.number), as \"devlink port show\" has it"
      let command =
        "this one alone: unbind it, devlink port function set PORT migratable enable (iproute2 6.2 or later; PORT: \(port)), "
        + "bind it again"
        + device.preparingAll(" --migratable")
      switch device.migratability {
      case .known(true): return .ok("devlink says that it is, of function \(place.number) of \(place.physicalFunction)")
      case .known(false): return .missing("devlink says that it is not", command)
      case .unknown(let reason): return .unknown(reason, command)
      }
    },
    Condition(
      device: "limiter",
      why: "a guest that is written to faster than the link carries has to be slowed down, or is stopped for long",
      restsOn: ["eswitch"]
    ) { device, _ in
      guard device.isNIC, device.place != nil else { return nil }
      switch device.limiter {
      case .known(let limiter) where limiter.kind == .police: return .ok("by police, at its representor")
      case .known(let limiter):
        return .warning(
          limiter.shortcomings.joined(separator: "; "),
          "run this as root with libnl-genl-3-200 installed; docs/throttling.md says what a NIC has to have")
      case .unknown(let reason): return .unknown(reason, "run this on the host itself")
      }
    },
    Condition(
      host: "retry-budget", why: "peers whose retries end while the guest stands still break their connections",
      needs: [.downtime, .connectX]
    ) { host in
      guard let downtime = host.expectations.downtime else { return nil }
      let wanted = downtime / 100 * (100 + RetryBudget.usualMargin)
      let milliseconds = "\(downtime / 1_000_000) ms and \(RetryBudget.usualMargin) %"
      let (scheme, retries) = (host.expectations.peers?.scheme ?? .fixed, RetransmissionTimeouts.mostRetries)
      let enough = RetryBudget.outlasting(nanoseconds: wanted, scheme: scheme, retries: retries)
      let remedy =
        enough.map { "set the peers' queue pairs to time-out \($0.timeout) and \($0.retries) retries, or more" }
        ?? "no setting outlasts it: make the downtime shorter"
      guard let peers = host.expectations.peers else {
        return .unknown(
          "nobody said what the peers are set to; \(milliseconds) have to be outlasted",
          "say --timeout N --retries N; or \(remedy)")
      }
      let set = "time-out \(peers.timeout) and \(peers.retries) retries"
      guard let tolerated = peers.toleratedNanoseconds else { return .ok("\(set): no end to their patience") }
      let evidence = "\(set) surely tolerate \(tolerated / 1_000_000) ms; \(milliseconds) have to be outlasted"
      return tolerated >= wanted ? .ok(evidence) : .warning(evidence, remedy)
    },
  ]

  /// What a physical function lacks to have virtual ones: only to make them, or that its firmware offers any.
  private static func physical(_ device: DeviceFacts, _ host: HostFacts) -> Verdict {
    let evidence = "\(device.record.sysfs) has no physfn: it is a physical function"
    let preparing = "vfio-ferry prepare \(device.address) --vfs N, and give the guest one of these"
    if let offered = device.offeredFunctions, offered > 0 {
      let offer = "\(evidence), and offers \(offered) virtual ones (sriov_totalvfs)"
      if let file = device.preparation, file.wish.functions > offered {
        let wanted = file.wish.functions
        return .missing(
          "\(offer), where \(file.path) wants \(wanted)",
          "\(setting("NUM_OF_VFS=\(wanted)", of: device)); then vfio-ferry prepare \(device.address)")
      }
      return .missing(
        offer, "\(preparing); where \(offered) are too few, before that: \(setting("NUM_OF_VFS=N", of: device))")
    }
    if let configuration = host.configuration, configuration["PCI_IOV"] == .off {
      return .missing(
        "\(evidence), and \(configuration.path) has no CONFIG_PCI_IOV", "boot a kernel that has it; then \(preparing)")
    }
    let offers =
      device.offeredFunctions == nil ? "its firmware has no SR-IOV: there is no" : "its firmware offers none: 0 in"
    return .missing(
      "\(evidence), and \(offers) sriov_totalvfs",
      "\(setting("SRIOV_EN=1 NUM_OF_VFS=N VF_MIGRATION_MODE=2", of: device)); then \(preparing)")
  }

  /// The command that sets something in a card's firmware, and what makes the card heed it.
  static func setting(_ what: String, of device: DeviceFacts) -> String {
    "mlxconfig -d \(device.card) set \(what), then mlxfwreset -d \(device.card) reset, or a power cycle "
      + "(Debian's mstflint calls them mstconfig, mstfwreset)"
  }

  /// The first firmware of ConnectX-7 with which virtual functions move.
  private static let firstFirmware = [28, 41, 1000]
}
