// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Topology

/// What the caller knows of transfers between the devices of a group, beyond what the PCI tree shows.
struct PeerOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The first device can start transfers to the second, whatever the PCI tree shows. May be given many times.",
      valueName: "DEV,DEV"))
  var link: [String] = []

  @Option(
    help: ArgumentHelp(
      "The first device never starts transfers to the second. May be given many times; \"all\" stands for every pair "
        + "that --link does not name.",
      valueName: "DEV,DEV"))
  var noLink: [String] = []

  @Flag(
    help: ArgumentHelp(
      "Read each device's configuration space between the phases, so that nothing is left on its way where a device's "
        + "control and data take different ways."))
  var flush = false

  /// Who can start transfers to whom: as the PCI tree shows it, then as the options say. Of what is no PCI function of
  /// the tree nothing is known, and what nobody knows counts as a link.
  /// - Throws: misuse where an option names what is not in the group, or contradicts another.
  func reachability(of records: [DeviceRecord], tree: PCITree) throws(CommandFailure) -> Reachability {
    var reachability = tree.reachability(of: records.map { $0.address(in: tree) })
    let declarations = try declarations(for: records)
    for declaration in declarations {
      reachability.declare(
        from: declaration.pair.from, to: declaration.pair.to, exists: declaration.exists, by: "the operator")
    }
    return reachability
  }

  /// Two different devices by their positions in the group.
  struct Pair: Hashable {
    let from: Int
    let to: Int
  }

  /// What one pair was declared to be.
  struct Declaration: Hashable {
    let pair: Pair
    let exists: Bool
  }

  /// What the options say of these devices, in the order in which it is to be declared.
  func declarations(for records: [DeviceRecord]) throws(CommandFailure) -> [Declaration] {
    var linked: [Pair] = []
    for text in link { linked.append(try Self.pair(text, option: "--link", of: records)) }
    var unlinked: [Pair] = []
    for text in noLink where text != "all" {
      let pair = try Self.pair(text, option: "--no-link", of: records)
      if linked.contains(pair) {
        throw .misuse(
          "--link and --no-link both name \(records[pair.from].name),\(records[pair.to].name): it is one or the other")
      }
      unlinked.append(pair)
    }
    if noLink.contains("all") {
      for from in records.indices {
        for to in records.indices where from != to && !linked.contains(Pair(from: from, to: to)) {
          unlinked.append(Pair(from: from, to: to))
        }
      }
    }
    return unlinked.map { Declaration(pair: $0, exists: false) } + linked.map { Declaration(pair: $0, exists: true) }
  }

  private static func pair(
    _ text: String, option: String, of records: [DeviceRecord]
  ) throws(CommandFailure) -> Pair {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2 else {
      throw .misuse("\(option) takes two devices with a comma between them, not \"\(text)\"")
    }
    var positions: [Int] = []
    for part in parts {
      let name = try DeviceAccess.name(part)
      guard let position = records.firstIndex(where: { $0.isMeant(by: name) }) else {
        throw .misuse("\(option) names \(name), which is not one of the devices given")
      }
      positions.append(position)
    }
    if positions[0] == positions[1] { throw .misuse("\(option) names \(records[positions[0]].name) twice") }
    return Pair(from: positions[0], to: positions[1])
  }
}

extension QuiesceRefusal {
  /// What a person at the command line can do about it, if it is true.
  var remedy: String {
    let options = links.map { "--no-link \($0.from),\($0.to)" }
    return "say \(options.joined(separator: " or ")) if it never does"
  }
}

extension DeviceRecord {
  /// Whether a name from the command line means this device: its name, or its node.
  func isMeant(by name: DeviceName) -> Bool {
    if case .node(let path) = name, let node { return Files.lastComponent(path) == Files.lastComponent(node) }
    return name == self.name
  }
}
