// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import Synchronization
import Testing

@testable import Topology

/// The kernel, but one of its answers is an error.
final class FailingNetwork: NetworkControl {
  private let kernel = KernelNetwork()
  private let countdown = Mutex<Int?>(nil)
  /// What was asked, in order.
  let asked = Mutex<[String]>([])

  /// The n-th request from now on is refused, from 1; none with nil.
  func fail(_ number: Int?) {
    countdown.withLock { $0 = number }
    asked.withLock { $0 = [] }
  }

  /// Whether the failure has happened.
  var hasFailed: Bool { countdown.withLock { $0 == 0 } }

  private func count(_ request: String) throws(NetlinkError) {
    asked.withLock { $0.append(request) }
    let fails = countdown.withLock { left in
      guard let now = left, now > 0 else { return false }
      left = now - 1
      return now == 1
    }
    if fails { throw NetlinkError(errno: .inputOutput, words: "made to fail") }
  }

  func hooks(of interface: Int32) throws(NetlinkError) -> HookHolder? {
    try count("hooks")
    return try kernel.hooks(of: interface)
  }
  func addClsact(to interface: Int32) throws(NetlinkError) {
    try count("add qdisc")
    try kernel.addClsact(to: interface)
  }
  func removeClsact(from interface: Int32) throws(NetlinkError) {
    try count("remove qdisc")
    try kernel.removeClsact(from: interface)
  }
  func survey(_ hook: TrafficHook, of interface: Int32, for cookie: Cookie) throws(NetlinkError) -> HookSurvey {
    try count("survey")
    return try kernel.survey(hook, of: interface, for: cookie)
  }
  func add(
    _ rule: PoliceRule, at hook: TrafficHook, of interface: Int32, preference: UInt16
  ) throws(NetlinkError) {
    try count("add filter")
    try kernel.add(rule, at: hook, of: interface, preference: preference)
  }
  func remove(_ filter: HookSurvey.Own, at hook: TrafficHook, of interface: Int32) throws(NetlinkError) {
    try count("remove filter")
    try kernel.remove(filter, at: hook, of: interface)
  }
  func replace(police number: UInt32, with rate: PoliceRate, redirects: Bool) throws(NetlinkError) {
    try count("replace")
    try kernel.replace(police: number, with: rate, redirects: redirects)
  }
  func port(ofFunction number: UInt16, bus: String, device: String) throws(NetlinkError) -> UInt32 {
    try count("find port")
    return try kernel.port(ofFunction: number, bus: bus, device: device)
  }
  func rate(of port: DevlinkPort) throws(NetlinkError) -> UInt64 {
    try count("get rate")
    return try kernel.rate(of: port)
  }
  func setRate(of port: DevlinkPort, _ bytesPerSecond: UInt64) throws(NetlinkError) {
    try count("set rate")
    try kernel.setRate(of: port, bytesPerSecond)
  }
}

extension LabTests {
  /// Each step of setting, changing and taking away a limit fails once, on a real kernel.
  @Suite(.serialized, .enabled(if: Lab.isHere))
  struct ThrottleFailureTests {
    private let network = FailingNetwork()

    /// Calls something whose requests fail one after the other, until it gets through.
    private func failEach(_ body: () throws(RateLimiterError) -> Void, after failure: (Int) throws -> Void) throws {
      for number in 1... {
        network.fail(number)
        do throws(RateLimiterError) {
          try body()
          #expect(!network.hasFailed, "an error was swallowed: \(network.asked.withLock { $0 })")
          break
        } catch {
          #expect(error.cause == .kernel(.inputOutput, words: "made to fail"), "\(error)")
          network.fail(nil)
          try failure(number)
        }
      }
      network.fail(nil)
    }

    @Test("a limit that could not be set, wherever it failed, leaves no filter, no qdisc and no record")
    func setting() throws {
      let pair = try TrafficPair("rep0")
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let places = [
        PolicePlace.representor(pair.interface),
        .uplink(pair.interface, address: pair.address, representor: pair.interface, hardwareOnly: false),
      ]
      let limiter = PoliceFilter(device: "0000:3b:00.1", places: places, folder: folder, network: network)
      let before = try pair.trafficControl()
      try failEach {
        () throws(RateLimiterError) in
        try limiter.limit(to: 1_250_000)
      } after: {
        (_: Int) throws in
        #expect(try pair.trafficControl() == before)
        #expect(folder.folder.names.isEmpty)
      }
      let between = try pair.trafficControl()
      #expect(between.contains("matchall") && between.contains("flower"))
      // Another rate that could not be set leaves the one that was.
      try failEach {
        () throws(RateLimiterError) in
        try limiter.limit(to: 2_500_000)
      } after: {
        (_: Int) throws in
        let after = try pair.trafficControl()
        #expect(after == between, "\(after)\nand before\n\(between)")
      }
      #expect(try limiter.look().map(\.rate) == [2_500_000, 2_500_000])
      // What could not be put back is put back by the next call, and on record until then.
      try failEach {
        () throws(RateLimiterError) in
        try limiter.restore()
      } after: {
        (_: Int) throws in
        #expect(folder.folder.names.count == 1)
      }
      #expect(try pair.trafficControl() == before)
      #expect(folder.folder.names.isEmpty)
      try pair.remove()
    }

    @Test("a rate of devlink's that could not be set or put back is what it was, and on record as long as it is set")
    func devlink() throws {
      let device = try SimulatedSwitch()
      let folder = ThrottleFolder(path: try Lab.temporaryFolder().path + "/throttles")
      let limiter = DevlinkRate(device: "vf", port: try device.port(1), folder: folder, network: network)
      try failEach {
        () throws(RateLimiterError) in
        try limiter.limit(to: 1_250_000)
      } after: {
        (_: Int) throws in
        #expect(try device.rate(1) == 0)
        #expect(folder.folder.names.isEmpty)
      }
      try failEach {
        () throws(RateLimiterError) in
        try limiter.limit(to: 2_500_000)
      } after: {
        (_: Int) throws in
        #expect(try device.rate(1) == 10)
      }
      try failEach {
        () throws(RateLimiterError) in
        try limiter.restore()
      } after: {
        (_: Int) throws in
        #expect(try device.rate(1) == 20)
        #expect(folder.folder.names.count == 1)
      }
      #expect(try device.rate(1) == 0)
      #expect(folder.folder.names.isEmpty)
      try device.remove()
    }
  }
}
