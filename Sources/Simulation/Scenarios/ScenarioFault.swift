// SPDX-License-Identifier: Apache-2.0
public import Migration

/// One thing that goes wrong in a scenario, or that somebody does.
public enum ScenarioFault: Hashable, Sendable {
  /// A use of an operation of a device fails or hangs.
  case device(SimulatedSide, device: Int, ScriptedFailure)
  /// The guest resets a device of the source.
  case guestReset(Scenario.GuestReset)
  /// A person ends a session; twice gives up devices that hang.
  case interrupt(Scenario.Interrupt, isTwice: Bool)
  /// A process is killed, before an event or at a time.
  case kill(Scenario.Interrupt)
  /// A device is declared dead.
  case death(Scenario.Death)
  /// The channel breaks at a time.
  case cut(at: MonotonicTime)
  /// The channel breaks after so many bytes.
  case cutAfter(bytes: UInt64)
  /// The channel breaks after a word of the agreement on who runs.
  case cutAfterWord(SimulatedLink.WordBreak)
  /// A bit is flipped on the channel.
  case flip(SimulatedLink.Flip)

  /// The device that it is about; nil where it is about none.
  var device: Int? {
    switch self {
    case .device(_, let device, _): device
    case .guestReset(let reset): reset.device
    case .death(let death): death.device
    case .interrupt, .kill, .cut, .cutAfter, .cutAfterWord, .flip: nil
    }
  }

  /// Whether a scenario can have only one of both.
  func excludes(_ other: ScenarioFault) -> Bool {
    switch (self, other) {
    case (.cut, .cut), (.cutAfter, .cutAfter), (.cutAfterWord, .cutAfterWord): true
    case (.device(let side, let device, let failure), .device(let otherSide, let otherDevice, let otherFailure)):
      side == otherSide && device == otherDevice && failure.operation == otherFailure.operation
        && failure.use == otherFailure.use
    case (.interrupt(let one, _), .interrupt(let another, _)): one == another
    default: self == other
    }
  }

  /// Whether this waits for ever, unless somebody ends it.
  var hangsForEver: Bool {
    if case .device(_, _, let failure) = self, case .hangs(nil) = failure.effect { true } else { false }
  }

  /// Whether this ends what hangs for ever.
  func ends(_ hang: ScenarioFault) -> Bool {
    guard case .device(let side, let device, let failure) = hang else { return false }
    switch self {
    // A device that is declared dead is not waited for, its limiter is.
    case .death(let death): return death.side == side && death.device == device && !failure.operation.isOfLimiter
    case .interrupt(let interrupt, true):
      guard interrupt.side == side else { return false }
      switch interrupt.moment {
      case .at: return true
      // Only a change of state has a limit after which it is said to hang.
      case .onHang: return failure.operation.isArc
      case .beforeEvent: return false
      }
    default: return false
    }
  }

  /// Puts it into a scenario that has its device.
  func happen(in scenario: inout Scenario) {
    switch self {
    case .device(.source, let device, let failure): scenario.source[device].failures.append(failure)
    case .device(.destination, let device, let failure): scenario.destination[device].failures.append(failure)
    case .guestReset(let reset): scenario.guestResets.append(reset)
    case .interrupt(let interrupt, let isTwice):
      scenario.interrupts += Array(repeating: interrupt, count: isTwice ? 2 : 1)
    case .kill(let kill): scenario.kills.append(kill)
    case .death(let death): scenario.deaths.append(death)
    case .cut(let time): scenario.link.breaksAt = time
    case .cutAfter(let bytes): scenario.link.breaksAfter = bytes
    case .cutAfterWord(let word): scenario.link.breaksAfterWord = word
    case .flip(let flip): scenario.link.flips.append(flip)
    }
  }
}

extension ScriptedFailure.Operation {
  /// Whether it is a request for a state.
  var isArc: Bool {
    switch self {
    case .anyArc, .arc: true
    case .readState, .preCopyInfo, .stopCopySize, .flush, .reset, .read, .write, .limit, .lift: false
    }
  }

  /// Whether the host's limiter does it, and not the device.
  var isOfLimiter: Bool { self == .limit || self == .lift }
}
