// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Synchronization
import Testing

@testable import Topology

/// A kernel with one interface and one port, which does what it is asked; but of one request the answer is lost, and of all
/// after it, until it is told to answer again.
private final class LossyNetwork: NetworkControl {
  struct State {
    var isHooked = false
    var filter: (rule: PoliceRule, rate: PoliceRate)?
    var portRate: UInt64 = 0
    var countdown: Int?
    var most: Int?
    /// Requests since the last ``lose(_:andNext:)``.
    var requests = 0
    /// How often the qdisc has requests under way when it is to go, and what these do.
    var busy: (times: Int, adds: Int) = (0, 0)
    /// Filters of others at the ingress.
    var others = 0
    /// What others do between the next answer to ``hooks(of:)`` and what its caller does then.
    var afterHooks: (@Sendable () -> Void)?
  }
  let state = Mutex(State())

  /// Loses the n-th answer from now on, from 1, and so many after it; none with nil.
  func lose(_ number: Int?, andNext count: Int = 0) {
    state.withLock { ($0.countdown, $0.most, $0.requests) = (number, number.map { $0 + count }, 0) }
  }

  private func ask<Answer>(_ body: (inout State) -> Answer) throws(NetlinkError) -> Answer {
    let (answer, isLost) = state.withLock { state in
      state.requests += 1
      let isLost = state.countdown.map { ($0...state.most!).contains(state.requests) } ?? false
      return (body(&state), isLost)
    }
    if isLost { throw NetlinkError(errno: .inputOutput, words: "lost") }
    return answer
  }

  func hooks(of interface: Int32) throws(NetlinkError) -> HookHolder? {
    defer { state.withLock { $0.afterHooks.take() }?() }
    return try ask { $0.isHooked ? HookHolder(kind: HookHolder.bothHooks, isShared: false) : nil }
  }
  func addClsact(to interface: Int32) throws(NetlinkError) { try ask { $0.isHooked = true } }
  func removeClsact(from interface: Int32) throws(NetlinkError) {
    let isBusy = try ask { state in
      guard state.busy.times > 0 else {
        state.isHooked = false
        return false
      }
      state.busy.times -= 1
      state.others += state.busy.adds
      return true
    }
    if isBusy { throw NetlinkError(errno: .busy, words: "requests under way") }
  }
  func survey(_ hook: TrafficHook, of interface: Int32, for cookie: Cookie) throws(NetlinkError) -> HookSurvey {
    try ask { state in
      var survey = HookSurvey(own: nil, others: 0, kin: 0, freePreference: 1, firstOther: nil)
      if hook == .ingress { survey.others = state.others }
      if hook == .egress, let filter = state.filter, filter.rule.rate.cookie == cookie {
        survey.own = HookSurvey.Own(
          kind: "matchall", preference: 1, info: 0, handle: 1, inHardware: false, police: 1,
          rate: filter.rate.bytesPerSecond, bytes: 0, drops: 0)
      }
      return survey
    }
  }
  func add(
    _ rule: PoliceRule, at hook: TrafficHook, of interface: Int32, preference: UInt16
  ) throws(NetlinkError) { try ask { $0.filter = (rule, rule.rate) } }
  func remove(_ filter: HookSurvey.Own, at hook: TrafficHook, of interface: Int32) throws(NetlinkError) {
    try ask { $0.filter = nil }
  }
  func replace(police number: UInt32, with rate: PoliceRate, redirects: Bool) throws(NetlinkError) {
    try ask { $0.filter?.rate = rate }
  }
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 {
    try ask { _ in 1 }
  }
  func rate(of port: DevlinkPort) throws(NetlinkError) -> UInt64 { try ask(\.portRate) }
  func setRate(of port: DevlinkPort, _ bytesPerSecond: UInt64) throws(NetlinkError) {
    try ask { $0.portRate = bytesPerSecond }
  }
}

/// The kernel does what it was asked for and nobody hears of it: what is in force is on record, wherever the answer was lost.
struct LostAnswerTests {
  private let network = LossyNetwork()
  private let folder = ThrottleFolder(
    path: FileManager.default.temporaryDirectory.appendingPathComponent("throttles-\(UUID().uuidString)/inner").path)

  private func limiter(_ kind: RateLimiterKind) -> any RateLimiter {
    switch kind {
    case .police:
      PoliceFilter(
        device: "vf", places: [.representor(NetworkInterface(name: "rep0", index: 7))], folder: folder, network: network
      )
    case .devlinkRate:
      DevlinkRate(
        device: "vf", port: DevlinkPort(bus: "pci", device: "0000:3b:00.0", number: 1), folder: folder, network: network
      )
    }
  }

  /// The limit in force; nil where there is none.
  private var inForce: UInt64? {
    network.state.withLock { $0.portRate > 0 ? $0.portRate : $0.filter?.rate.bytesPerSecond }
  }
  private var hasTraces: Bool { network.state.withLock { $0.isHooked || $0.filter != nil || $0.portRate > 0 } }

  /// Calls something while the n-th answer is lost, and so many after it.
  /// - Returns: nil where it asked for less.
  private func call(
    losing number: Int, andNext more: Int, _ body: () throws(RateLimiterError) -> Void
  ) -> RateLimiterError? {
    network.lose(number, andNext: more)
    defer { network.lose(nil) }
    do throws(RateLimiterError) {
      try body()
      #expect(network.state.withLock(\.requests) < number, "answer \(number) was lost, and nobody says so")
      return nil
    } catch {
      return error
    }
  }

  @Test(
    "a first limit whose answer is lost is taken back; where that is lost too it is on record, and the next start puts it back",
    arguments: RateLimiterKind.allCases, [0, 100])
  func first(_ kind: RateLimiterKind, more: Int) throws {
    var hasStayed = false
    for number in 1... {
      let isByNextStart = number.isMultiple(of: 2)
      var limiter: (any RateLimiter)? = limiter(kind)
      let error = call(losing: number, andNext: more) { () throws(RateLimiterError) in try limiter?.limit(to: 1_250_000)
      }
      if error == nil {
        try limiter?.restore()
        break
      }
      #expect(!hasTraces || folder.folder.names.count == 1, "\(number): what is in force is not on record")
      #expect(folder.folder.names.isEmpty == (error?.wayBack.isEmpty == true))
      hasStayed = hasStayed || hasTraces
      if isByNextStart { limiter = nil } else { try limiter?.restore() }
      _ = folder.putBackLeftovers(network)
      #expect(!hasTraces && folder.folder.names.isEmpty)
    }
    #expect(hasStayed == (more > 0) && !hasTraces && folder.folder.names.isEmpty)
  }

  @Test(
    "another limit whose answer is lost leaves the old one in force, or says so and is on record",
    arguments: RateLimiterKind.allCases, [0, 100])
  func second(_ kind: RateLimiterKind, more: Int) throws {
    for number in 1... {
      let limiter = limiter(kind)
      try limiter.limit(to: 1_250_000)
      guard
        let error = call(
          losing: number, andNext: more, { () throws(RateLimiterError) in try limiter.limit(to: 2_500_000) })
      else {
        try limiter.restore()
        break
      }
      #expect(inForce == 1_250_000 || (!error.wayBack.isEmpty && inForce == 2_500_000), "\(number): \(error)")
      #expect(more > 0 || error.wayBack.isEmpty)
      try limiter.restore()
      #expect(!hasTraces && folder.folder.names.isEmpty)
    }
  }

  @Test(
    "what was taken away and nobody hears of it stays on record until the next call",
    arguments: RateLimiterKind.allCases)
  func restoring(_ kind: RateLimiterKind) throws {
    for number in 1... {
      let limiter = limiter(kind)
      try limiter.limit(to: 1_250_000)
      guard call(losing: number, andNext: 0, { () throws(RateLimiterError) in try limiter.restore() }) != nil else {
        break
      }
      #expect(folder.folder.names.count == 1)
      try limiter.restore()
      #expect(!hasTraces && folder.folder.names.isEmpty)
    }
    #expect(!hasTraces && folder.folder.names.isEmpty)
  }

  @Test("a qdisc with requests under way is asked again, and stays where they have added a filter; not for ever")
  func busy() throws {
    let limiter = limiter(.police)
    try limiter.limit(to: 1_250_000)
    network.state.withLock { $0.busy = (3, 0) }
    try limiter.restore()
    #expect(!hasTraces && folder.folder.names.isEmpty)

    try limiter.limit(to: 1_250_000)
    network.state.withLock { $0.busy = (1, 1) }
    try limiter.restore()
    #expect(network.state.withLock { $0.isHooked && $0.filter == nil } && folder.folder.names.isEmpty)

    network.state.withLock { ($0.isHooked, $0.others) = (false, 0) }
    try limiter.limit(to: 1_250_000)
    network.state.withLock { $0.busy = (.max, 0) }
    let error = #expect(throws: RateLimiterError.self) { try limiter.restore() }
    #expect(error.map { "\($0)" }?.contains("EBUSY") == true)
    #expect(inForce == nil && folder.folder.names.count == 1, "the filter is gone, the qdisc is on record")
    network.state.withLock { $0.busy = (0, 0) }
    try limiter.restore()
    #expect(!hasTraces && folder.folder.names.isEmpty)
  }

  @Test("a qdisc whose maker leaves while it is looked at is still taken away by the last of us")
  func makerLeaves() throws {
    let (maker, limiter) = (limiter(.police), limiter(.police))
    try maker.limit(to: 1_250_000)
    network.state.withLock { state in
      state.afterHooks = { [network] in
        do { try maker.restore() } catch { Issue.record(error) }
        // A third of us makes it anew; its record is not looked for any more.
        network.state.withLock { $0.isHooked = true }
      }
    }
    try limiter.limit(to: 2_500_000)
    try limiter.restore()
    #expect(!hasTraces && folder.folder.names.isEmpty)
  }
}
