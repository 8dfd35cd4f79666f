// SPDX-License-Identifier: Apache-2.0
internal import Migration

// Every key of a scenario file. docs/scenario-files.md has the same table for people; a test holds them together.

extension ScenarioKey {
  /// No time in a file is longer: an hour, in microseconds.
  static let longest: UInt64 = 3_600_000_000
  /// No rate is higher, in bytes a microsecond: 8 Tbit/s.
  static let fastest: UInt64 = 1_000_000

  static let all: [ScenarioKey] = machine + connections + network + images + move

  private static let machine: [ScenarioKey] = [
    choice("workload", \.world.workload),
    number("nics", 1...32, \.world.nics),
    number("connections", 1...131_072, \.world.connections),
    number("peers", 1...64, \.world.peers),
    number("requests", 1...1_000_000, \.world.requests),
    number("words", 1...64, \.world.words),
    number("packet-words", 1...64, \.world.packetWords),
    yes("atomics", \.world.usesAtomics),
    time("pause", \.world.pauseMicroseconds),
    time("start-at", \.world.firstRequestAt),
    time("start-over", \.world.startMicroseconds),
    number("instructions", 1...100_000, \.world.instructionsPerMicrosecond),
    ScenarioKey(name: "pcie-words", form: .quantity(.count, 0...1_000_000)) {
      $0.world.pcieWordsPerMicrosecond
    } write: {
      $0.world.pcieWordsPerMicrosecond = $1
    },
    yes("remap-buffers", \.world.remapsBuffers),
    yes("gpu-p2p", \.world.gpusHaveP2P),
    yes("acs-redirect", \.world.redirectsPeerTransfers),
    yes("commands-through-pf", \.world.commandsGoToPF),
    choice("quiescing", \.world.quiescing),
    time("arc-time", \.world.arcMicroseconds), time("gpu-arc-time", \.world.gpuArcMicroseconds),
  ]

  private static let connections: [ScenarioKey] = [
    ScenarioKey(name: "timeouts", form: .choice(["fixed", "exponential"])) {
      UInt64($0.world.retransmission.kind.rawValue)
    } write: {
      $0.world.retransmission.kind = $1 == 0 ? .fixed : .exponential
    },
    shortTime("timeout", \.world.retransmission.baseMicroseconds),
    shortTime("timeout-limit", \.world.retransmission.limitMicroseconds),
    number("retries", 0...UInt64(RetransmissionSettings.mostRetries), \.world.retransmission.retries),
    number(
      "receiver-retries", 0...UInt64(RetransmissionSettings.mostRetries), \.world.retransmission.receiverNotReadyRetries
    ),
  ]

  private static let network: [ScenarioKey] = [
    time("network-delay", \.world.network.delayMicroseconds),
    time("jitter", \.world.network.jitterMicroseconds),
    chance("loss", \.world.network.lossPerMillion),
    chance("duplication", \.world.network.duplicationPerMillion),
    chance("reordering", \.world.network.reorderingPerMillion),
    time("hold-up", from: 1, \.world.network.holdUpMicroseconds),
  ]

  private static let images: [ScenarioKey] = [
    bytes("nic-record", 1...16 << 20, \.world.nicRecordBytes),
    bytes("gpu-page", 1...16 << 20, \.world.gpuPageBytes),
    rate("image-rate", \.world.imageBytesPerMicrosecond),
    bytes("guest-page", 64...16 << 20, \.world.guestPageBytes),
    rate("channel-rate", \.world.channel.bytesPerMicrosecond),
    time("channel-delay", \.world.channel.delayMicroseconds),
    bytes("channel-window", 1...1 << 30, \.world.channel.windowBytes),
    time("channel-finish", \.world.channel.finishMicroseconds),
    yes("channel-answers", \.world.channel.isTwoWay),
  ]

  private static let move: [ScenarioKey] = [
    time("move-at", \.world.moveAt),
    yes("pre-copy", \.world.preCopies),
    time("downtime-limit", \.world.downtimeLimit),
    yes("throttle", \.world.throttles),
    choice("last-resort", \.world.lastResort),
    time("vcpu-stop", \.settings.vcpuStopMicroseconds),
    time("step-limit", from: 1, \.settings.stepLimitMicroseconds),
    yes("source-reset", \.settings.sourceMayReset),
    yes("destination-reset", \.settings.destinationMayReset),
    ScenarioKey(name: "sabotage", form: .choice(["none"] + Sabotage.allCases.map(\.rawValue))) { file in
      guard let sabotage = file.world.sabotage else { return 0 }
      return UInt64(1 + (Sabotage.allCases.firstIndex(of: sabotage) ?? 0))
    } write: {
      $0.world.sabotage = $1 == 0 ? nil : Sabotage.allCases[Int($1) - 1]
    },
  ]

  private typealias Field<Value> = any WritableKeyPath<ScenarioFile, Value> & Sendable

  private static func number(
    _ name: String, _ range: ClosedRange<UInt64>, unit: ScenarioUnit = .count, _ field: Field<Int>
  ) -> ScenarioKey {
    // A negative number becomes one that no range has.
    ScenarioKey(name: name, form: .quantity(unit, range)) {
      UInt64(bitPattern: Int64($0[keyPath: field]))
    } write: {
      $0[keyPath: field] = Int($1)
    }
  }

  private static func bytes(_ name: String, _ range: ClosedRange<UInt64>, _ field: Field<Int>) -> ScenarioKey {
    number(name, range, unit: .bytes, field)
  }

  private static func chance(_ name: String, _ field: Field<Int>) -> ScenarioKey {
    number(name, 0...1_000_000, unit: .chance, field)
  }

  private static func time(_ name: String, from least: UInt64 = 0, _ field: Field<UInt64>) -> ScenarioKey {
    ScenarioKey(name: name, form: .quantity(.time, least...longest)) {
      $0[keyPath: field]
    } write: {
      $0[keyPath: field] = $1
    }
  }

  private static func shortTime(_ name: String, _ field: Field<UInt32>) -> ScenarioKey {
    ScenarioKey(name: name, form: .quantity(.time, 1...longest)) {
      UInt64($0[keyPath: field])
    } write: {
      $0[keyPath: field] = UInt32($1)
    }
  }

  private static func rate(_ name: String, _ field: Field<UInt64>) -> ScenarioKey {
    ScenarioKey(name: name, form: .quantity(.rate, 1...fastest)) {
      $0[keyPath: field]
    } write: {
      $0[keyPath: field] = $1
    }
  }

  private static func yes(_ name: String, _ field: Field<Bool>) -> ScenarioKey {
    ScenarioKey(name: name, form: .choice(["no", "yes"])) {
      $0[keyPath: field] ? 1 : 0
    } write: {
      $0[keyPath: field] = $1 == 1
    }
  }

  private static func choice<Word: CaseIterable & RawRepresentable<String> & SendableMetatype>(
    _ name: String, _ field: Field<Word>
  ) -> ScenarioKey {
    let words = Word.allCases.map(\.rawValue)
    return ScenarioKey(name: name, form: .choice(words)) { file in
      UInt64(words.firstIndex(of: file[keyPath: field].rawValue) ?? words.count)
    } write: { file, value in
      if let word = Word(rawValue: words[Int(value)]) { file[keyPath: field] = word }
    }
  }
}
