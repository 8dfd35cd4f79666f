// SPDX-License-Identifier: Apache-2.0

/// Something that has to hold before a device can be migrated, or be migrated well: a name, why it matters, and how it is
/// judged from facts. All of them are in ``all``; docs/doctor.md has the same list.
public struct Condition: Sendable {
  /// Whether it holds.
  public enum State: String, CaseIterable, Comparable, Sendable {
    case ok
    /// Nobody could say.
    case unknown
    /// It does not hold, and a migration works all the same, worse or not surely.
    case warning
    /// It does not hold, and no migration works without.
    case missing

    public static func < (one: State, other: State) -> Bool {
      allCases.firstIndex(of: one)! < allCases.firstIndex(of: other)!
    }
  }

  /// What it is about.
  enum Scope: String {
    case host, device
  }

  /// What the caller has to say or to name, for it to be judged at all.
  public enum Need: String, Sendable {
    case guestMemory = "--guest-memory SIZE"
    case downtime = "--downtime MS"
    case devices = "the devices of one virtual machine (DEV…)"
    case connectX = "a function of a ConnectX, of which alone this is known"
  }

  /// Its name, which does not change once released.
  public let key: String
  /// What has to be so, and what for.
  public let why: String
  /// Conditions without which it can't be judged, or would fail for the same reason: where one of these does not hold either,
  /// that this one does not is left out.
  let restsOn: [String]
  /// What has to be said for it; what comes first is asked for first.
  public let needs: [Need]
  let judge: Judge

  /// How it is judged. Nil is what has nothing to do with this host or device.
  enum Judge: Sendable {
    case host(@Sendable (HostFacts) -> Verdict?)
    case device(@Sendable (DeviceFacts, HostFacts) -> Verdict?)
  }

  var scope: Scope { if case .host = judge { .host } else { .device } }

  init(
    host key: String, why: String, restsOn: [String] = [], needs: [Need] = [],
    _ judge: @escaping @Sendable (HostFacts) -> Verdict?
  ) {
    (self.key, self.why, self.restsOn, self.needs, self.judge) = (key, why, restsOn, needs, .host(judge))
  }

  init(
    device key: String, why: String, restsOn: [String] = [], needs: [Need] = [],
    _ judge: @escaping @Sendable (DeviceFacts, HostFacts) -> Verdict?
  ) {
    (self.key, self.why, self.restsOn, self.needs, self.judge) = (key, why, restsOn, needs, .device(judge))
  }

  /// Every condition, those that others rest on before these.
  public static let all: [Condition] = kernel + network + device + memory + group
}

/// What judging came to.
struct Verdict: Hashable, Sendable {
  var state: Condition.State
  /// What was read, and where.
  var evidence: String
  /// The command that mends it, or what else to do; nil where all is well.
  var remedy: String?

  static func ok(_ evidence: String) -> Verdict { Verdict(state: .ok, evidence: evidence) }
  static func unknown(_ evidence: String, _ remedy: String) -> Verdict {
    Verdict(state: .unknown, evidence: evidence, remedy: remedy)
  }
  static func warning(_ evidence: String, _ remedy: String) -> Verdict {
    Verdict(state: .warning, evidence: evidence, remedy: remedy)
  }
  static func missing(_ evidence: String, _ remedy: String) -> Verdict {
    Verdict(state: .missing, evidence: evidence, remedy: remedy)
  }
}

/// What all conditions came to on a host.
public struct Diagnosis: Sendable {
  /// One condition of the host or of a device.
  public struct Finding: Hashable, Sendable {
    /// The condition's key.
    public let condition: String
    /// The device; nil for the host.
    public let device: String?
    public let state: Condition.State
    /// What was read, and where; no full stop at its end.
    public let evidence: String
    /// What the condition is for.
    public let why: String
    /// The command that mends it, or what else to do; nil where all is well.
    public let remedy: String?
  }

  /// One condition that was not judged.
  public struct Unasked: Hashable, Sendable {
    /// The condition's key.
    public let condition: String
    /// The first thing that it needs and that is not there.
    public let need: Condition.Need
  }

  /// In the order of the conditions; for each device in the order in which they were given.
  public private(set) var findings: [Finding] = []
  /// Conditions that were not judged because what they need was not said or named.
  public private(set) var unasked: [Unasked] = []

  /// The worst state; ok where there is nothing at all.
  public var worst: Condition.State { findings.map(\.state).max() ?? .ok }

  /// Judges all conditions.
  public init(_ facts: HostFacts) {
    /// By device, and for the host at nil: what does not hold.
    var failed: [String?: Set<String>] = [:]
    for condition in Condition.all {
      if let need = condition.needs.first(where: { !facts.meets($0) }) {
        unasked.append(Unasked(condition: condition.key, need: need))
        continue
      }
      switch condition.judge {
      case .host(let judge):
        // What rests on a condition of devices rests on that of all of them.
        let causes = failed.values.reduce(into: Set<String>()) { $0.formUnion($1) }
        add(condition, nil, judge(facts), causes, &failed)
      case .device(let judge):
        let ofHost = failed[nil, default: []]
        for device in facts.devices {
          add(condition, device.name, judge(device, facts), ofHost.union(failed[device.name, default: []]), &failed)
        }
      }
    }
  }

  /// What does not hold is listed only where nothing that it rests on is the cause.
  private mutating func add(
    _ condition: Condition, _ device: String?, _ verdict: Verdict?, _ causes: Set<String>,
    _ failed: inout [String?: Set<String>]
  ) {
    guard let verdict else { return }
    if verdict.state != .ok {
      failed[device, default: []].insert(condition.key)
      if !causes.isDisjoint(with: condition.restsOn) { return }
    }
    findings.append(
      Finding(
        condition: condition.key, device: device, state: verdict.state, evidence: verdict.evidence, why: condition.why,
        remedy: verdict.remedy))
  }
}

extension HostFacts {
  fileprivate func meets(_ need: Condition.Need) -> Bool {
    switch need {
    case .guestMemory: expectations.guestMemory != nil
    case .downtime: expectations.downtime != nil
    case .devices: isOneMachine
    case .connectX: devices.contains(where: \.isConnectX)
    }
  }
}
