// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Reads what stands behind `fault` on a line.
struct ScenarioFaultParser {
  private var words: ScenarioWords

  /// - Parameter text: without the word `fault`.
  static func parse(_ text: Substring) throws(ScenarioTextProblem) -> ScenarioFault {
    var parser = ScenarioFaultParser(words: ScenarioWords(text))
    let fault = try parser.fault()
    try parser.words.end()
    return fault
  }

  private mutating func fault() throws(ScenarioTextProblem) -> ScenarioFault {
    switch try words.next(of: ["source", "destination", "guest", "channel"]) {
    case "source": return try sideFault(.source)
    case "destination": return try sideFault(.destination)
    case "guest":
      try words.take("resets")
      let device = try device()
      return .guestReset(Scenario.GuestReset(device: device, time: try moment()))
    default: return try channelFault()
    }
  }

  private mutating func sideFault(_ side: SimulatedSide) throws(ScenarioTextProblem) -> ScenarioFault {
    switch try words.next(of: ["device", "interrupted", "killed"]) {
    case "interrupted":
      let isTwice = words.takes("twice")
      switch try words.next(of: ["before", "at", "when"]) {
      case "before": return .interrupt(.init(side, try event()), isTwice: isTwice)
      case "at": return .interrupt(.init(side, .at(try time())), isTwice: isTwice)
      default:
        for word in ["a", "device", "hangs"] { try words.take(word) }
        return .interrupt(.init(side, .onHang), isTwice: isTwice)
      }
    case "killed":
      if try words.next(of: ["before", "at"]) == "before" { return .kill(.init(side, try event())) }
      return .kill(.init(side, .at(try time())))
    default:
      let device = Int(try words.number("a device's number", 0...63))
      if words.takes("declared") {
        try words.take("dead")
        return .death(Scenario.Death(side, device: device, time: try moment()))
      }
      return .device(side, device: device, try failure())
    }
  }

  private mutating func channelFault() throws(ScenarioTextProblem) -> ScenarioFault {
    if try words.next(of: ["cut", "flips"]) == "cut" {
      switch try words.next(of: ["at", "after", "upon"]) {
      case "at": return .cut(at: try time())
      case "after": return .cutAfter(bytes: try words.rest(.bytes, 0...1 << 40))
      default:
        let name = try words.next(of: SimulatedLink.WordBreak.Word.allCases.map(\.rawValue))
        let word = SimulatedLink.WordBreak.Word(rawValue: name) ?? .commit
        return .cutAfterWord(.init(word, microseconds: try words.rest(.time, 0...ScenarioKey.longest)))
      }
    }
    try words.take("bit")
    let bit = Int(try words.number("a bit", 0...7))
    try words.take("of")
    try words.take("byte")
    return .flip(SimulatedLink.Flip(byte: try words.number("a byte", 0...1 << 40), bit: bit))
  }

  // MARK: A device's failure

  private static let operations: [(word: String, operation: ScriptedFailure.Operation)] = [
    ("state", .readState), ("pre-copy-info", .preCopyInfo), ("stop-copy-size", .stopCopySize), ("flush", .flush),
    ("reset", .reset), ("read", .read), ("write", .write), ("limit", .limit), ("lift", .lift),
  ]

  private mutating func failure() throws(ScenarioTextProblem) -> ScriptedFailure {
    let word = try words.next(of: ["arc", "any"] + Self.operations.map(\.word))
    var operation = Self.operations.first { $0.word == word }?.operation ?? .anyArc
    if word == "any" {
      try words.take("arc")
    } else if word == "arc" {
      operation = .arc(to: try state(among: MigrationState.allCases.filter { $0 != .error }))
    }
    let use = words.takes("use") ? Int(try words.number("a use", 1...1_000_000)) : 1
    return ScriptedFailure(operation, use: use, try effect(of: operation))
  }

  private mutating func effect(
    of operation: ScriptedFailure.Operation
  ) throws(ScenarioTextProblem) -> ScriptedFailure.Effect {
    // A request that fails leaves a device where it was, at the end of the arc, or in ERROR; others don't move it.
    var places: [MigrationState] = operation.isArc ? [.error] : []
    if case .arc(let target) = operation { places.append(target) }
    switch try words.next(of: ["fails", "hangs"] + (places.isEmpty ? [] : ["enters"])) {
    case "hangs": return .hangs(microseconds: words.isAtEnd ? nil : try words.rest(.time, 1...ScenarioKey.longest))
    case "enters": return .fails(.inputOutput, .at(try state(among: places)))
    default:
      let errno = try errno()
      guard !places.isEmpty, words.takes("and") else { return .fails(errno, .unchanged) }
      try words.take("enters")
      return .fails(errno, .at(try state(among: places)))
    }
  }

  private mutating func state(among states: [MigrationState]) throws(ScenarioTextProblem) -> MigrationState {
    let name = try words.next(of: states.map(\.name))
    return states.first { $0.name == name } ?? .error
  }

  private mutating func errno() throws(ScenarioTextProblem) -> ErrorNumber {
    let expected = "the name of an error number, like EIO"
    let name = try words.next(expected)
    let errnos = (1...133 as ClosedRange<Int32>).map { ErrorNumber(rawValue: $0) }
    guard name.first == "E", let errno = errnos.first(where: { $0.name == name }) else {
      throw ScenarioTextProblem("\"\(ScenarioFileError.printable(name))\" is no error number", expected: expected)
    }
    return errno
  }

  // MARK: Moments

  private mutating func device() throws(ScenarioTextProblem) -> Int {
    try words.take("device")
    return Int(try words.number("a device's number", 0...63))
  }

  private mutating func moment() throws(ScenarioTextProblem) -> MonotonicTime {
    try words.take("at")
    return try time()
  }

  private mutating func time() throws(ScenarioTextProblem) -> MonotonicTime {
    MonotonicTime(microseconds: try words.rest(.time, 0...ScenarioKey.longest))
  }

  private mutating func event() throws(ScenarioTextProblem) -> Scenario.Interrupt.Moment {
    try words.take("event")
    return .beforeEvent(Int(try words.number("an event", 1...1_000_000)))
  }
}
