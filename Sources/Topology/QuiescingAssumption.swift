// SPDX-License-Identifier: Apache-2.0

/// Something that the argument for quiescing takes for granted of a device, and that can be looked up. What can't (that
/// drivers drain) is in docs/quiescing.md.
///
/// The argument: when a device answers its last command, everything that it sent before has arrived, because answer and
/// earlier writes take the same way and nothing on it lets the answer overtake the writes.
public struct QuiescingAssumption: Hashable, Sendable {
  /// What is taken for granted.
  public enum Kind: String, Hashable, Sendable {
    /// That the device's registers can be read, without which the rest is not known.
    case readable
    /// That no ID-based ordering (IDO) is used: with it, what one function sends may overtake what another sent, and a
    /// physical function's answer the writes of its virtual function. The same goes for the root port above it, on whose
    /// link what the host sends may overtake what peers sent.
    case noIDOrdering = "no-id-ordering"
    /// That a virtual function's commands, which go through its physical function (as mlx5's do), share a link with its
    /// data.
    case sharedPath = "shared-path"
  }

  /// Whether it is so.
  public enum State: String, Hashable, Sendable {
    /// It is.
    case holds
    /// It is not.
    case violated
    /// Nobody can say.
    case unknown
  }

  /// The address of the function that it is about.
  public var device: String
  /// What is taken for granted.
  public var kind: Kind
  /// Whether it is so.
  public var state: State
  /// What was seen, in words for a person; no full stop at its end.
  public var evidence: String
  /// What a person can do where it does not hold, or is not known; no full stop at its end.
  public var remedy: String?

  /// An assumption that was looked up; see the properties.
  public init(device: String, kind: Kind, state: State, evidence: String, remedy: String? = nil) {
    self.device = device
    self.kind = kind
    self.state = state
    self.evidence = evidence
    self.remedy = remedy
  }
}

extension PCITree {
  /// What quiescing takes for granted of these functions, each with what was found; in the order of the functions.
  /// An address that is not in the tree has one entry, which says so.
  public func assumptions(of devices: [String]) -> [QuiescingAssumption] {
    devices.flatMap { address -> [QuiescingAssumption] in
      guard let function = self[address] else {
        return [
          QuiescingAssumption(
            device: address, kind: .readable, state: .unknown, evidence: "there is no PCI function \(address)")
        ]
      }
      // A virtual function's own control bits are reserved.
      let physical = function.physicalFunction.map { address in (address: address, function: self[address]) }
      var found = [readable(function), ordering(function, physical: physical)]
      if let physical { found.append(path(function, physical: physical)) }
      return found
    }
  }

  private typealias Physical = (address: String, function: PCIFunction?)

  private func readable(_ function: PCIFunction) -> QuiescingAssumption {
    guard function.capabilities == nil else {
      return QuiescingAssumption(
        device: function.address, kind: .readable, state: .holds, evidence: "its capabilities could be read")
    }
    return QuiescingAssumption(
      device: function.address, kind: .readable, state: .unknown, evidence: "its capabilities could not be read",
      remedy: "run this as root, with libpci installed")
  }

  private func ordering(_ function: PCIFunction, physical: Physical?) -> QuiescingAssumption {
    let owner = physical?.address ?? function.address
    let port = way(up: function.address).places.dropFirst().last.map { functions[$0] }.flatMap {
      $0.kind == .rootPort ? $0 : nil
    }
    let whose = physical == nil ? "it" : "its physical function \(owner)"
    func unread(_ whose: String) -> QuiescingAssumption {
      QuiescingAssumption(
        device: function.address, kind: .noIDOrdering, state: .unknown,
        evidence: "whether \(whose) uses ID-based ordering could not be read",
        remedy: "run this as root, with libpci installed")
    }
    guard let capabilities = function.capabilities else { return unread(whose) }
    // Whoever made the tree may know of the physical function alone.
    let theirs = physical?.function?.capabilities
    var mine = capabilities
    mine.idOrderedRequests = mine.idOrderedRequests || theirs?.idOrderedRequests == true
    mine.idOrderedCompletions = mine.idOrderedCompletions || theirs?.idOrderedCompletions == true
    let above = port.map { "the root port \($0.address) above it" }
    var (seen, commands): ([String], [String]) = ([], [])
    for (who, address, registers) in [(whose, owner, mine), (above ?? "", port?.address ?? "", port?.capabilities)] {
      guard let what = registers?.idOrdering else { continue }
      seen.append("\(who) has ID-based ordering on for \(what)")
      // IDO Request Enable and IDO Completion Enable are bits 8 and 9 of Device Control 2.
      commands.append("setpci -s \(address) CAP_EXP+28.w=0000:0300")
    }
    guard seen.isEmpty else {
      return QuiescingAssumption(
        device: function.address, kind: .noIDOrdering, state: .violated, evidence: seen.joined(separator: ", and "),
        remedy: "turn it off: " + commands.joined(separator: "; "))
    }
    if let port, let above, port.capabilities == nil { return unread(above) }
    return QuiescingAssumption(
      device: function.address, kind: .noIDOrdering, state: .holds,
      evidence: "\(whose) has ID-based ordering off" + (above.map { ", and so has \($0)" } ?? ""))
  }

  private func path(_ function: PCIFunction, physical: Physical) -> QuiescingAssumption {
    guard let owner = physical.function else {
      return QuiescingAssumption(
        device: function.address, kind: .sharedPath, state: .unknown,
        evidence: "its physical function \(physical.address) is not there to be looked at",
        remedy: "look at it where its physical function is: on the host itself")
    }
    let mine = function.parent ?? function.hostBridge
    let theirs = owner.parent ?? owner.hostBridge
    if function.hostBridge == owner.hostBridge && function.parent == owner.parent {
      return QuiescingAssumption(
        device: function.address, kind: .sharedPath, state: .holds,
        evidence: "it and its physical function \(owner.address) are both below \(mine)")
    }
    return QuiescingAssumption(
      device: function.address, kind: .sharedPath, state: .violated,
      evidence: "it is below \(mine), but its physical function \(owner.address) is below \(theirs)",
      remedy: "use a virtual function of a physical function that is below \(mine)")
  }
}

extension PCIFunction.Capabilities {
  /// What ID-based ordering is on for, in words; nil for nothing.
  fileprivate var idOrdering: String? {
    let what = [idOrderedRequests ? "requests" : nil, idOrderedCompletions ? "completions" : nil].compactMap { $0 }
    return what.isEmpty ? nil : what.joined(separator: " and ")
  }
}
