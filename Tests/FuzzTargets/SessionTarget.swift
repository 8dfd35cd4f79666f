@testable import Helper
// SPDX-License-Identifier: Apache-2.0
@testable import Migration

extension FuzzTarget {
  /// A VMM's session on a bench: any request at any time, tasks that end in any order and way, a session that tells
  /// anything that it could, and ends as it could.
  static let session = FuzzTarget("session") { bytes in
    var input = FuzzInput(bytes)
    var bench = SessionModel()
    if !input.flag() { try bench.ask(.hello(major: 1, minor: 1, features: .pages, version: "")) }
    while !input.isEmpty, !bench.isOver { try bench.step(&input) }
    try bench.settle()
  }
}

extension SessionModel {
  fileprivate mutating func step(_ input: inout FuzzInput) throws {
    switch input.choice(10) {
    case 0...3: try ask(RequestChoice.request(&input))
    case 4: try endTask(&input, fails: false)
    case 5: try endTask(&input, fails: true)
    case 6, 7: try tell(&input)
    case 8: try endSession(&input)
    default: try happen(&input)
    }
  }

  /// A task comes to its end.
  private mutating func endTask(_ input: inout FuzzInput, fails: Bool) throws {
    guard !tasks.isEmpty else { return }
    let index = input.choice(tasks.count)
    let id = input.choice(5)
    try end(task: index, fails: fails, state: MigrationState.allCases[id % MigrationState.allCases.count])
  }

  private mutating func tell(_ input: inout FuzzInput) throws {
    guard hasBegun else { return }
    let device = input.choice(max(1, session.order.count))
    let error = DeviceError(.readState, .errno(.inputOutput))
    switch input.choice(12) {
    case 0: try take(.note(.phase("copying")))
    case 1: try take(.note(.phase("going back")))
    case 2, 3:
      let times = RequestTimes(began: MonotonicTime(microseconds: 0), ended: MonotonicTime(microseconds: 1))
      let fails = input.flag()
      try take(
        .note(
          .arc(
            ArcReport(
              device: device, from: .running, to: input.one(of: MigrationState.allCases), times: times,
              error: fails ? error : nil))))
    case 4: try take(.note(.reset(device: device)))
    case 5: try take(.note(.restarted(device: device, times: 1)))
    case 6: try take(.note(.hung(device: device, .readState, microseconds: 1)))
    case 7: try take(.note(.ready))
    case 8: try take(.note(.decided(Self.decision(&input))))
    case 9: try take(.pagesRead(input.one(of: [.first, .next, .last]), dirty: UInt64(input.byte())))
    case 10: try take(.note(.slow(.readingPages, microseconds: 1)))
    default:
      try take(
        .progress(session.order.map { _ in DeviceProgress(state: .stopCopy, bytes: UInt64(input.byte())) }))
    }
  }

  private static func decision(_ input: inout FuzzInput) -> PreCopyDecision {
    var forecast = PreCopyForecast()
    forecast.bandwidth = UInt64(input.byte())
    forecast.dirtyRate = UInt64(input.byte())
    return PreCopyDecision(
      round: Int(input.byte()), forecast: forecast, limit: 0,
      verdict: input.one(of: [.goOn, .awaitInitial(device: 0), .stop, .force, .giveUp, .throttle(bytesPerSecond: 1)]))
  }

  private mutating func endSession(_ input: inout FuzzInput) throws {
    guard hasBegun else { return }
    let fails = input.flag()
    let states: [MigrationState?] = [.running, .stop, .stopCopy, .resuming, .error, nil]
    let devices = session.order.map { id in
      DeviceOutcome(name: "\(id)", state: input.one(of: states), wasReset: input.flag(), isHung: input.choice(4) == 3)
    }
    let faults: [SessionFault] = [
      .interrupted("fuzz"), .mismatch("fuzz"), .declaredDead(0), .keptResetting(0, times: 3), .resetAtLastMoment(0),
      .channel(ChannelError("reading", channel: "a channel", errno: .inputOutput)),
      .device(0, DeviceError(.readState, .errno(.inputOutput))),
    ]
    try endSession(fault: fails ? input.one(of: faults) : nil, devices: devices)
  }

  private mutating func happen(_ input: inout FuzzInput) throws {
    switch input.choice(8) {
    case 0: try take(.memoryMoved(input.number(UInt64.self)))
    case 1: try take(.trackerReplaced(.node("/dev/vfio/devices/vfio\(input.choice(4))"), "fuzz"))
    case 2: try hangUp()
    case 3: try take(.terminated("fuzz"))
    // A number that has no reply yet.
    case 4: if let number = waiting.keys.min() { try ask(RequestChoice.request(&input), number: number) }
    default: try take(.memoryMoved(1))
    }
  }
}
