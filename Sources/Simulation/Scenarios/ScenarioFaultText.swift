// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension ScenarioFault: CustomStringConvertible {
  /// The line of a scenario file that says it.
  public var description: String { "fault " + words }

  private var words: String {
    switch self {
    case .device(let side, let device, let failure): "\(side) device \(device) \(failure.words)"
    case .guestReset(let reset): "guest resets device \(reset.device) at \(Self.text(reset.time))"
    case .interrupt(let interrupt, let isTwice):
      "\(interrupt.side) interrupted \(isTwice ? "twice " : "")\(Self.text(interrupt.moment))"
    case .kill(let kill): "\(kill.side) killed \(Self.text(kill.moment))"
    case .death(let death): "\(death.side) device \(death.device) declared dead at \(Self.text(death.time))"
    case .cut(let time): "channel cut at \(Self.text(time))"
    case .cutAfter(let bytes): "channel cut after \(ScenarioUnit.bytes.text(bytes))"
    case .cutAfterWord(let cut):
      "channel cut upon \(cut.word.rawValue) \(ScenarioUnit.time.text(cut.microseconds))"
    case .flip(let flip): "channel flips bit \(flip.bit) of byte \(flip.byte)"
    }
  }

  private static func text(_ time: MonotonicTime) -> String { ScenarioUnit.time.text(time.microseconds) }

  private static func text(_ moment: Scenario.Interrupt.Moment) -> String {
    switch moment {
    case .beforeEvent(let number): "before event \(number)"
    case .at(let time): "at \(text(time))"
    case .onHang: "when a device hangs"
    }
  }
}

extension ScriptedFailure {
  /// What goes wrong, as a scenario file has it.
  fileprivate var words: String {
    "\(operation.words)\(use == 1 ? "" : " use \(use)") \(effect.words)"
  }
}

extension ScriptedFailure.Operation {
  fileprivate var words: String {
    switch self {
    case .anyArc: "any arc"
    case .arc(let state): "arc \(state)"
    case .readState: "state"
    case .preCopyInfo: "pre-copy-info"
    case .stopCopySize: "stop-copy-size"
    case .flush: "flush"
    case .reset: "reset"
    case .read: "read"
    case .write: "write"
    case .limit: "limit"
    case .lift: "lift"
    }
  }
}

extension ScriptedFailure.Effect {
  fileprivate var words: String {
    switch self {
    case .fails(let errno, .unchanged): "fails \(errno)"
    case .fails(.inputOutput, .at(let state)): "enters \(state)"
    case .fails(let errno, .at(let state)): "fails \(errno) and enters \(state)"
    case .hangs(nil): "hangs"
    case .hangs(let microseconds?): "hangs \(ScenarioUnit.time.text(microseconds))"
    }
  }
}
