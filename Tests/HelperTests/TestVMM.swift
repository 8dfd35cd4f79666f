// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import Foundation
import LinuxIO
import Migration
import Synchronization
import VFIO

@testable import Helper

/// A host whose devices are made of memory.
final class FakeHost: HelperHost {
  private let devices: [DeviceName: any MigratableDevice]
  private let tag: [UInt8]
  private let over: @Sendable () -> Void

  /// - Parameters:
  ///   - tag: of each device.
  ///   - over: called when nothing of the helper is left: its threads have ended.
  init(_ devices: [any MigratableDevice], tag: [UInt8] = [], over: @escaping @Sendable () -> Void = {}) {
    self.tag = tag
    self.over = over
    self.devices = Dictionary(uniqueKeysWithValues: devices.map { ($0.name, $0) })
  }

  deinit { over() }

  func adopt(
    _ device: HelperDevice, _ descriptors: consuming ReceivedDescriptors
  ) throws(HelperFailure) -> AdoptedDevice {
    guard let found = devices[device.name] else {
      throw HelperFailure(.noSuch, device: device.device, "no \(device.name)")
    }
    return AdoptedDevice(device: found, driver: "fake", tag: tag) { _ in [] }
  }

  func reachability(of devices: [DeviceName]) -> Reachability { .assumed(count: devices.count) }
}

/// A VMM with a real server at the other end of a real socket.
final class TestVMM {
  struct Gone: Error {}

  private let socket: PacketSocket
  private let thread: BlockingThread
  private let ended = BlockingQueue<HelperServer.Ending>()
  /// Tells the server to end, as a signal does.
  let terminate: @Sendable (String) -> Void
  private var number: UInt32 = 0
  private var early: [UInt32: HelperReply] = [:]
  private(set) var events: [HelperEvent] = []
  /// The file that came with the last reply that had one.
  private(set) var file: SentFile?

  /// What a server makes of a VMM that has sent these packets and gone, and what it said to its log before.
  static func afterwards(_ packets: [[UInt8]]) throws -> (HelperServer.Ending, log: [String]) {
    let (mine, theirs) = try PacketSocket.pair()
    for packet in packets { try mine.send(packet.span) }
    _ = consume mine
    var lines: [String] = []
    let server = try HelperServer(socket: theirs, host: FakeHost([]), version: "test") { lines.append($1) }
    return (server.run(), lines)
  }

  init(
    _ devices: [any MigratableDevice], tag: [UInt8] = [], limits: HelperLimits = HelperLimits(),
    metrics: HelperMetrics? = nil, over: @escaping @Sendable () -> Void = {}
  ) throws {
    let (mine, theirs) = try PacketSocket.pair()
    socket = mine
    let host = FakeHost(devices, tag: tag, over: over)
    let begun = BlockingQueue<@Sendable (String) -> Void>()
    thread = try BlockingThread(name: "helper") { [ended] in
      defer { begun.close() }
      guard
        let server = try? HelperServer(socket: theirs, host: host, limits: limits, version: "test", metrics: metrics)
      else { return }
      begun.put(server.terminate)
      ended.put(server.run())
    }
    guard let terminate = begun.take() else { throw Gone() }
    self.terminate = terminate
  }

  /// Sends a request, with a duplicate of up to two descriptors.
  func send(_ request: HelperRequest, _ first: SentFile? = nil, _ second: SentFile? = nil) throws -> UInt32 {
    number += 1
    let bytes = request.packet(number: number)
    switch (first, second) {
    case (let first?, let second?): try socket.send(bytes.span, with: first.descriptor, second.descriptor)
    case (let first?, nil): try socket.send(bytes.span, with: first.descriptor)
    default: try socket.send(bytes.span)
    }
    return number
  }

  func send(bytes: [UInt8]) throws { try socket.send(bytes.span) }

  /// Waits for the reply to a request, keeping what comes before it.
  func reply(to number: UInt32) throws -> HelperReply {
    while true {
      if let reply = early.removeValue(forKey: number) { return reply }
      try takeOne()
    }
  }

  /// Whether a reply has come already that nobody has waited for.
  func hasReply(to number: UInt32) -> Bool { early[number] != nil }

  func ask(_ request: HelperRequest, _ first: SentFile? = nil, _ second: SentFile? = nil) throws -> HelperReply {
    try reply(to: send(request, first, second))
  }

  /// Waits until an event has come that is like that.
  func wait(for isMeant: (HelperEvent) -> Bool) throws {
    while !events.contains(where: isMeant) { try takeOne() }
  }

  private func takeOne() throws {
    var buffer = [UInt8](repeating: 0, count: HelperPacket.maximumSize)
    // A server that says nothing for so long never will.
    let limit = monotonicMicroseconds() + 20_000_000
    while monotonicMicroseconds() < limit {
      var span = buffer.mutableSpan
      switch try socket.receive(into: &span, waits: false) {
      case .nothing: Pause.milliseconds(1)
      case .packet(let size, var descriptors):
        switch try HelperPacket.message(buffer.span.extracting(0..<size), descriptors: descriptors.count) {
        case .reply(let number, _, let reply): early[number] = reply
        case .event(let event): events.append(event)
        }
        if let first = descriptors.first.take() { file = SentFile(first) }
        return
      default: throw Gone()
      }
    }
    throw Gone()
  }

  func hangUp() { socket.hangUp() }

  /// Waits for the server's end.
  func ending() -> HelperServer.Ending? { ended.take(until: monotonicMicroseconds() + 10_000_000) }
}
