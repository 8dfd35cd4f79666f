// SPDX-License-Identifier: Apache-2.0

/// Which tracker a user wants for a device.
public enum TrackerWish: Hashable, Sendable {
  /// The first that there is, in the order of ``TrackerKind``.
  case auto
  /// This one, and where it fails later those after it.
  case only(TrackerKind)
}

/// What there is of one kind of tracker for a device.
public enum TrackerOffer: Sendable {
  /// It is there. Devices on one page table, or in one container, are offered the same object, so that it is read once.
  case ready(any DirtyTracker)
  /// It is not, and why, in words that follow a colon.
  case missing(TrackerKind, String)

  /// Of which kind.
  public var kind: TrackerKind {
    switch self {
    case .ready(let tracker): tracker.kind
    case .missing(let kind, _): kind
    }
  }
}

/// The tracker that was asked for is not there.
public struct TrackerRefusal: Error, Hashable, Sendable {
  /// For which device.
  public let device: DeviceName
  /// Which tracker.
  public let kind: TrackerKind
  /// Why it is not there.
  public let reason: String
}

extension TrackerRefusal: CustomStringConvertible {
  public var description: String { "no tracker \"\(kind)\" for \(device): \(reason)" }
}

/// Which tracker a device gets, why, and which ones take over where it fails.
public struct TrackerChoice: Sendable {
  /// The device.
  public let device: DeviceName
  /// Why this one: names what would have gone before it, and why that is not there.
  public let reason: String
  /// The chosen one first, then those that replace it. The last is never anything but ``TrackerKind/everything``.
  let chain: [any DirtyTracker]

  /// The chosen one.
  public var kind: TrackerKind { chain[0].kind }
  /// The kinds that would take over, in their order.
  public var replacements: [TrackerKind] { chain.dropFirst().map(\.kind) }

  /// Chooses for a device.
  /// - Parameters:
  ///   - offers: at most one of each kind, in any order. What is not among them is not there; `everything` always is.
  /// - Throws: where the wish can't be met.
  public init(for device: DeviceName, _ wish: TrackerWish = .auto, from offers: [TrackerOffer])
    throws(TrackerRefusal)
  {
    var ready: [any DirtyTracker] = []
    var missing: [(kind: TrackerKind, reason: String)] = []
    for kind in TrackerKind.allCases where kind != .everything {
      switch offers.first(where: { $0.kind == kind }) {
      case .ready(let tracker): ready.append(tracker)
      case .missing(_, let reason): missing.append((kind, reason))
      case nil: missing.append((kind, "there is none"))
      }
    }
    ready.append(EverythingTracker())
    if case .only(let kind) = wish {
      guard let first = ready.firstIndex(where: { $0.kind == kind }) else {
        let reason = missing.first { $0.kind == kind }?.reason ?? ""
        throw TrackerRefusal(device: device, kind: kind, reason: reason)
      }
      ready.removeFirst(first)
    }
    self.device = device
    chain = ready
    let chosen = ready[0].kind
    switch wish {
    case .only: reason = "\(chosen), as asked for"
    case .auto:
      let order = TrackerKind.allCases
      let before = missing.filter { order.firstIndex(of: $0.kind)! < order.firstIndex(of: chosen)! }
      let passed = before.map { "no \($0.kind): \($0.reason)" }
      reason = passed.isEmpty ? "\(chosen), the first choice" : "\(chosen); " + passed.joined(separator: "; ")
    }
  }
}
