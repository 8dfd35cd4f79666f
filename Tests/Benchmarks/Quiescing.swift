// SPDX-License-Identifier: Apache-2.0
// How long a group takes to a stop and back, on the lab's synthetic devices.
import CBaseline
import Engine
import LinuxIO
import Migration
import Transport

/// The steps of one save without pre-copy: a stop and a start, six arcs for each device.
struct QuiesceFigures {
  /// Microseconds that the steps took, each from its first request handed out to its last answer taken in. What a save
  /// does besides (questions, the device's data, the stream) lies before, between and after them.
  var stepMicroseconds: UInt64
  var arcs: Int

  init(_ session: SaveSession) {
    if let fault = session.outcome?.fault { fail("a save failed: \(fault)") }
    stepMicroseconds = session.steps.reduce(0) { $0 + $1.ended.microseconds(since: $1.began) }
    arcs = session.steps.reduce(0) { $0 + $1.arcs.count }
    if arcs != 6 * session.progress.count { fail("\(session.progress.count) devices made \(arcs) arcs") }
  }
}

/// Save after save on the same lanes, because the threads that a session starts are not what is measured.
struct RepeatedSave: SessionMachine {
  private let fresh: SaveSession
  private var current: SaveSession
  private let rounds: Int
  private let between: @Sendable () -> Void
  private(set) var figures: [QuiesceFigures] = []

  /// - Parameter between: called after each round, while nothing is under way.
  init(_ session: SaveSession, rounds: Int, between: @escaping @Sendable () -> Void) {
    fresh = session
    current = session
    self.rounds = rounds
    self.between = between
  }

  var outcome: SessionOutcome? { figures.count == rounds ? current.outcome : nil }
  var deadline: MonotonicTime? { current.deadline }
  var progress: [DeviceProgress] { current.progress }
  var steps: [StepReport] { current.steps }
  var quorum: Int { current.quorum }

  mutating func begin(at now: MonotonicTime) -> [SessionEffect] { current.begin(at: now) }

  mutating func handle(_ event: SessionEvent, at now: MonotonicTime) -> [SessionEffect] {
    let effects = current.handle(event, at: now)
    guard current.outcome != nil else { return effects }
    figures.append(QuiesceFigures(current))
    between()
    if figures.count == rounds { return effects }
    current = fresh
    return effects + current.begin(at: MonotonicTime(microseconds: monotonicMicroseconds()))
  }
}

/// Saves a group again and again.
func quiesce(
  _ devices: [SyntheticDevice], rounds: Int, between: @escaping @Sendable () -> Void = {}
) throws -> [QuiesceFigures] {
  let described = devices.map(\.described)
  let plan = try QuiescePlan(devices: described, reachability: .assumed(count: devices.count))
  var configuration = SaveSession.Configuration()
  configuration.preCopy = false
  configuration.buffers = devices.count
  configuration.quiescing.vcpusAreStopped = true
  let runner = try SessionRunner(
    devices: devices.map(\.device), channel: DescriptorChannel(owning: Descriptor.inMemory(name: "stream")),
    checksum: .xxh3, buffers: configuration.buffers)
  let save = SaveSession(devices: described, plan: plan, configuration: configuration)
  return try runner.run(RepeatedSave(save, rounds: rounds, between: between)).figures
}

/// The same by a C program: the same ioctls on the same descriptors, by a waiting thread for each device.
@safe
final class PlainProgram: @unchecked Sendable {
  // Unchecked because the C threads are used by one thread at a time, the one that runs the session.
  private let handoff: OpaquePointer
  private let arcs: Int
  /// Microseconds per arc, round by round: from the first request handed out to the last answer, of the stop and of the
  /// start.
  private(set) var figures: [Double] = []

  init(_ devices: [SyntheticDevice]) {
    guard let handoff = unsafe handoff_begin(devices.map(\.number), Int32(devices.count)) else {
      fail("the C threads did not start")
    }
    unsafe self.handoff = handoff
    arcs = 6 * devices.count
  }

  deinit { unsafe handoff_end(handoff) }

  func quiesce() {
    var nanoseconds = 0
    for states: [MigrationState] in [[.runningP2P, .stop, .stopCopy], [.stop, .runningP2P, .running]] {
      let took = unsafe handoff_walk(handoff, states.map(\.rawValue), Int32(states.count))
      if took < 0 { fail("the C program's request failed with errno \(-took)") }
      nanoseconds += took
    }
    figures.append(Double(nanoseconds) / 1000 / Double(arcs))
  }
}

private func spread(_ values: [Double]) -> String {
  let sorted = values.sorted()
  return "\(decimals(sorted[sorted.count / 4])) to \(decimals(sorted[sorted.count * 3 / 4]))"
}

/// Arcs that take 20 ms each: eight devices at once take about as long as one.
func benchStepTime(_ devices: [SyntheticDevice]) throws -> Bool {
  for device in devices { try device.set("arc_time", "all 20000") }
  defer { for device in devices { try? device.set("arc_time", "") } }
  var ratios: [Double] = []
  for _ in 1...15 {
    let one = try quiesce(Array(devices.prefix(1)), rounds: 1)[0]
    let all = try quiesce(devices, rounds: 1)[0]
    ratios.append(Double(all.stepMicroseconds) / Double(one.stepMicroseconds))
  }
  print(
    "a stop and a start of \(devices.count) devices whose arcs take 20 ms: \(decimals(median(ratios))) times one "
      + "device's (half of the rounds \(spread(ratios)))")
  return promise(median(ratios) <= 1.25, "at most 1.25 times one device's")
}

/// Arcs that take no time: what is left is the kernel's part of the ioctl and the handing over. Both sides hand requests
/// to threads that wait for them, and wait for the last answer before the next step. The C program decides nothing: no
/// state is kept, no answer looked at before all are there, no time taken.
func benchOwnTime(_ devices: [SyntheticDevice]) throws -> Bool {
  let plain = PlainProgram(devices)
  let runs = try quiesce(devices, rounds: 210) { plain.quiesce() }
  // The first rounds only warm up.
  let mine = runs.dropFirst(10).map { Double($0.stepMicroseconds) / Double($0.arcs) }
  let theirs = Array(plain.figures.dropFirst(10))
  let ratio = median(mine) / median(theirs)
  print(
    "per arc, \(devices.count) device\(devices.count == 1 ? "" : "s"), arcs that take no time: \(decimals(ratio)) times "
      + "the C program; medians \(decimals(median(mine), 1)) us (half of the rounds \(spread(mine))) against "
      + "\(decimals(median(theirs), 1)) us (\(spread(theirs)))")
  return promise(ratio <= 2, "at most twice the C program's time")
}

func benchQuiescing() throws -> Bool {
  var devices: [SyntheticDevice] = []
  for index in 1...8 { devices.append(try SyntheticDevice("bench\(index)")) }
  var holds = try benchStepTime(devices)
  for count in [1, 2, 8] where try !benchOwnTime(Array(devices.prefix(count))) { holds = false }
  return holds
}
