// SPDX-License-Identifier: Apache-2.0
internal import Migration

extension Scenario {
  /// A move with what goes wrong drawn from the seed: nothing for a fifth of the seeds, one to three things for the
  /// others. Whatever hangs for ever is given up in the end.
  /// - Parameters:
  ///   - world: what it is like where nothing else was drawn; one without a ``WorldDescription/problem``.
  ///   - seed: the same seed draws the same.
  /// - Returns: the scenario, and the lines that make it of the world in a scenario file.
  public static func withFaults(world: WorldDescription, seed: UInt64) -> (scenario: Scenario, faults: [String]) {
    var drawing = ScenarioFaultDrawing(world: world, seed: seed)
    drawing.draw()
    return (drawing.file.scenario(seed: seed), drawing.file.lines(since: ScenarioFile(world: world)))
  }
}

/// Draws what goes wrong in a move.
struct ScenarioFaultDrawing {
  private(set) var file: ScenarioFile
  var numbers: SeededGenerator

  init(world: WorldDescription, seed: UInt64) {
    file = ScenarioFile(world: world)
    // Not what the world itself draws from.
    numbers = SeededGenerator(seed: seed ^ 0x6661_756c_7473_2121)
  }

  mutating func draw() {
    guard numbers.next(below: 5) != 0 else { return }
    let before = file
    for _ in 0..<(1 + numbers.next(below: 3)) {
      // What is drawn may be so already.
      let count = file.lines(since: before).count
      for _ in 0..<20 where file.lines(since: before).count == count { drawOne() }
    }
  }

  private mutating func drawOne() {
    switch numbers.next(below: 10) {
    case 0...2: drawDeviceFault()
    case 3: drawKill()
    case 4...5: drawChannelFault()
    case 6: drawPerson()
    default: drawWorld()
    }
  }

  private mutating func one<Element>(of elements: [Element]) -> Element {
    elements[numbers.next(below: elements.count)]
  }

  private mutating func side() -> SimulatedSide { one(of: SimulatedSide.allCases) }

  /// A time while the machine is moved, or a little later.
  private mutating func time(within microseconds: Int) -> MonotonicTime {
    MonotonicTime(microseconds: file.world.moveAt + UInt64(numbers.next(below: microseconds)))
  }

  private mutating func add(_ fault: ScenarioFault) {
    if !file.faults.contains(where: fault.excludes) { file.faults.append(fault) }
  }

  // MARK: Devices

  private static let errnos: [ErrorNumber] = [
    .inputOutput, .interrupted, .invalidArgument, .noDevice, .busy, .noMemory, .tooManyFiles,
  ]

  private mutating func drawDeviceFault() {
    let side = side()
    let device = numbers.next(below: file.world.devices)
    let operation: ScriptedFailure.Operation
    var uses = 2
    switch numbers.next(below: 8) {
    case 0...1:
      operation = .anyArc
      uses = 8
    case 2...4:
      // What a side asks of a device in a good move.
      let features = Scenario(world: file.world, seed: 1).source[device].features
      let graph = StateGraph(features: features)
      let states: [MigrationState] =
        side == .source
        ? [.preCopy, .preCopyP2P, .runningP2P, .stop, .stopCopy, .running]
        : [.runningP2P, .stop, .resuming, .running]
      operation = .arc(to: one(of: states.filter(graph.contains)))
    case 5:
      operation = side == .source ? .read : .write
      uses = 8
    default:
      operation = one(
        of: side == .source ? [.preCopyInfo, .readState, .flush, .stopCopySize, .reset] : [.readState, .flush, .reset])
      uses = 4
    }
    // Without that nobody flushes.
    if operation == .flush { set("commands-through-pf", 1) }
    let use = 1 + numbers.next(below: uses)
    let effect = effect(of: operation)
    add(.device(side, device: device, ScriptedFailure(operation, use: use, effect)))
    if effect == .hangs(microseconds: nil) { drawEnd(side, device) }
    // A driver that fails an arc may well not say either where its device is.
    if operation.isArc, numbers.next(below: 5) == 0 {
      let use = 1 + numbers.next(below: 3)
      add(.device(side, device: device, ScriptedFailure(.readState, use: use, .fails(.inputOutput, .unchanged))))
    }
  }

  private mutating func effect(of operation: ScriptedFailure.Operation) -> ScriptedFailure.Effect {
    if numbers.next(below: 4) == 0 {
      let time = UInt64(1 + numbers.next(below: 150)) * 1000
      return .hangs(microseconds: numbers.next(below: 2) == 0 ? nil : time)
    }
    var places: [ScriptedFailure.Place] = [.unchanged]
    if operation.isArc { places.append(.at(.error)) }
    if case .arc(let target) = operation { places.append(.at(target)) }
    let place = one(of: places)
    // A failure that lost its answer: the device is there all the same.
    return .fails(one(of: Self.errnos), place)
  }

  /// Somebody watches a device that hangs for ever and gives up: everybody, again and again, because the way back may
  /// hang too.
  private mutating func drawEnd(_ side: SimulatedSide, _ device: Int) {
    set("step-limit", one(of: [20_000, 100_000, 400_000]))
    if numbers.next(below: 2) == 0 {
      let time = MonotonicTime(microseconds: file.world.moveAt + 30_000 + UInt64(numbers.next(below: 400)) * 1000)
      add(.death(Death(side, device: device, time: time)))
    } else {
      add(.interrupt(Interrupt(side, .onHang), isTwice: true))
    }
    for side in SimulatedSide.allCases {
      for seconds in [2, 4, 6] as [UInt64] {
        let time = MonotonicTime(microseconds: file.world.moveAt + seconds * 1_000_000)
        add(.interrupt(Interrupt(side, .at(time)), isTwice: true))
      }
    }
  }

  // MARK: Processes, people and the channel

  /// Before an event early in the move or anywhere in it, or at a time. A session has some 20 events for each device,
  /// and more where a lot of state changes; those in which the two sides agree on who runs are among the last.
  private mutating func drawMoment() -> Interrupt.Moment {
    switch numbers.next(below: 5) {
    case 0: .beforeEvent(1 + numbers.next(below: 16))
    case 1...2: .beforeEvent(1 + numbers.next(below: 16 + 20 * file.world.devices))
    case 3: .beforeEvent(1 + numbers.next(below: 16 + 50 * file.world.devices))
    default: .at(time(within: 40_000))
    }
  }

  private typealias Interrupt = Scenario.Interrupt
  private typealias Death = Scenario.Death

  private mutating func drawKill() { add(.kill(Interrupt(side(), drawMoment()))) }

  private mutating func drawPerson() {
    let device = numbers.next(below: file.world.devices)
    switch numbers.next(below: 4) {
    case 0: add(.guestReset(Scenario.GuestReset(device: device, time: time(within: 12_000))))
    case 1: add(.death(Death(side(), device: device, time: time(within: 40_000))))
    case 2: add(.interrupt(Interrupt(side(), drawMoment()), isTwice: false))
    default: add(.guestReset(Scenario.GuestReset(device: device, time: time(within: 4_000))))
    }
  }

  private mutating func drawChannelFault() {
    switch numbers.next(below: 5) {
    case 0: add(.cut(at: time(within: 40_000)))
    case 4:
      // The two sides agree within some fifty microseconds, and the last of three words comes when devices run.
      let time = UInt64(numbers.next(below: one(of: [60, 1500])))
      add(.cutAfterWord(.init(one(of: SimulatedLink.WordBreak.Word.allCases), microseconds: time)))
    case 1:
      let most = one(of: [4 << 10, 1 << 20, 16 << 20])
      add(.cutAfter(bytes: UInt64(numbers.next(below: most))))
    case 2:
      let most = one(of: [4 << 10, 1 << 20, 16 << 20])
      let byte = UInt64(numbers.next(below: most))
      add(.flip(SimulatedLink.Flip(byte: byte, bit: numbers.next(below: 8))))
    default: set("channel-rate", one(of: [125, 500, 1000, 2000]))
    }
  }

  // MARK: The world

  private mutating func drawWorld() {
    switch numbers.next(below: 16) {
    case 12...13: drawArcs()
    case 14...15: drawOutrun()
    case 0...1: drawNetwork()
    case 2: set("jitter", UInt64(1 + numbers.next(below: 30)))
    case 3: set("acs-redirect", 1)
    case 4:
      // What is under way to a device outlasts an arc only if that is short.
      set("commands-through-pf", 1)
      set("arc-time", one(of: [1, 5, 20]))
      set("gpu-arc-time", one(of: [1, 5, 20]))
    case 5:
      if file.world.workload == .nic { set("remap-buffers", 1) }
    case 6: drawTimeouts()
    case 7: set("quiescing", 1)
    case 8: set("pre-copy", 0)
    case 9: set(one(of: ["source-reset", "destination-reset"]), 1)
    case 10: set("vcpu-stop", UInt64(numbers.next(below: 20) * 100))
    default: set("move-at", UInt64(1 + numbers.next(below: 12)) * 1000)
    }
  }

  /// A channel that the guest outruns. A GPU's image would take seconds on it.
  private mutating func drawOutrun() {
    guard file.world.gpus == 0 else { return }
    set("throttle", 1)
    set("channel-rate", one(of: [60, 100, 200]))
    set("requests", 500)
    set("last-resort", UInt64(numbers.next(below: 2)))
    set("downtime-limit", one(of: [1000, 4000, 20_000]))
    if numbers.next(below: 2) == 0 { drawLimiterFault() }
  }

  /// A limit that can't be set, or not be lifted at once or at all, or that takes its time.
  private mutating func drawLimiterFault() {
    let device = numbers.next(below: file.world.nics)
    func fault(_ operation: ScriptedFailure.Operation, use: Int, _ effect: ScriptedFailure.Effect) -> ScenarioFault {
      .device(.source, device: device, ScriptedFailure(operation, use: use, effect))
    }
    let fails = ScriptedFailure.Effect.fails(one(of: Self.errnos), .unchanged)
    let slow = ScriptedFailure.Effect.hangs(microseconds: UInt64(1 + numbers.next(below: 50)) * 1000)
    switch numbers.next(below: 5) {
    case 0: add(fault(.limit, use: 1 + numbers.next(below: 3), fails))
    case 1: add(fault(.lift, use: 1, fails))
    case 2: for use in 1...2 { add(fault(.lift, use: use, fails)) }
    case 3: add(fault(.limit, use: 1 + numbers.next(below: 2), slow))
    default: add(fault(.lift, use: 1, slow))
    }
  }

  /// Devices that take their arcs at different speeds, so that some wait for others.
  private mutating func drawArcs() {
    set("arc-time", one(of: [1, 5, 20, 100, 900]))
    if file.world.gpus > 0 { set("gpu-arc-time", one(of: [1, 5, 20, 100, 900])) }
  }

  private mutating func drawNetwork() {
    let which = 1 + numbers.next(below: 7)
    if which & 1 != 0 { set("loss", one(of: [1000, 5000, 20_000])) }
    if which & 2 != 0 { set("duplication", one(of: [1000, 10_000])) }
    if which & 4 != 0 { set("reordering", one(of: [1000, 10_000, 30_000])) }
  }

  /// Fixed ones have to outlast the stop in eight times the first; doubling ones do so from a small one on.
  private mutating func drawTimeouts() {
    let isFixed = numbers.next(below: 2) == 0
    set("timeouts", isFixed ? 0 : 1)
    let base: UInt64 = one(of: isFixed ? [4000, 8000, 16_000] : [200, 1000, 2000])
    set("timeout", base)
    if UInt64(file.world.retransmission.limitMicroseconds) < base { set("timeout-limit", base) }
  }

  private mutating func set(_ name: String, _ value: UInt64) {
    if let key = ScenarioKey.named(name) { key.write(&file, value) }
  }
}
