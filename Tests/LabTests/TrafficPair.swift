// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import LinuxIO
import Testing

@testable import Topology

/// Runs a program of the guest's and gives what it printed.
func run(_ command: String...) throws -> String { try run(command) }

func run(_ command: [String]) throws -> String {
  let process = Process()
  let output = Pipe()
  process.executableURL = URL(fileURLWithPath: try #require(Files.program(command[0]), "no \(command[0])"))
  process.arguments = Array(command.dropFirst())
  process.standardInput = FileHandle.nullDevice
  process.standardOutput = output
  process.standardError = output
  try process.run()
  let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  try #require(process.terminationStatus == 0, "\(command.joined(separator: " ")): \(text)")
  return text
}

/// Two interfaces that are the ends of one link: one is here and plays a representor, or an uplink, the other is in a
/// network namespace of its own, and plays the function behind it, or the wire.
final class TrafficPair {
  let interface: NetworkInterface
  let namespace: String
  private let network: String
  private var puppets: [Puppet] = []

  /// The MAC address of the other end.
  let address: [UInt8]
  /// The IP address of the other end.
  var otherEnd: String { "\(network).2" }

  /// - Parameter name: of the interface; the namespace is called so, too.
  init(_ name: String, network: String = "10.97.1") throws {
    namespace = "ns-\(name)"
    self.network = network
    address = [2, 0, 0, 0, 0, UInt8(network.split(separator: ".").last!)!]
    let mac = address.map { "0\(String($0, radix: 16))" }.joined(separator: ":")
    let batch = FileManager.default.temporaryDirectory.appendingPathComponent("batch-\(name)")
    // In one go: each program that starts takes long here. The other end has no route back, so it never answers.
    try """
    netns add \(namespace)
    link add \(name) mtu 9000 type veth peer name other netns \(namespace) mtu 9000 address \(mac)
    address add \(network).1/24 dev \(name)
    link set \(name) up
    neighbour add \(network).2 lladdr \(mac) dev \(name)
    """.write(to: batch, atomically: true, encoding: .utf8)
    _ = try run("ip", "-batch", batch.path)
    _ = try run("ip", "-n", namespace, "address", "add", "\(network).2/32", "dev", "other")
    _ = try run("ip", "-n", namespace, "link", "set", "other", "up")
    interface = NetworkInterface(name: name, index: Int32(unsafe if_nametoindex(name)))
  }

  /// Somebody who counts what comes to the other end.
  func receiver(_ at: String? = nil, port: Int = 4711) throws -> Puppet {
    try puppet(inside: namespace, ["receive", at ?? otherEnd, "\(port)"])
  }

  /// Somebody who sends: from here, or from the other end.
  func sender(
    to destination: String? = nil, inside: Bool = false, size: Int = 8000, segment: Int? = nil
  ) throws -> Puppet {
    try puppet(
      inside: inside ? namespace : nil,
      ["send", destination ?? otherEnd, "4711", "\(size)"] + (segment.map { ["\($0)"] } ?? []))
  }

  private func puppet(inside namespace: String?, _ arguments: [String]) throws -> Puppet {
    let program = Lab.products.appendingPathComponent("udp-traffic").path
    let puppet =
      if let namespace {
        try Puppet(try #require(Files.program("ip")), ["netns", "exec", namespace, program] + arguments)
      } else {
        try Puppet("udp-traffic", arguments)
      }
    puppets.append(puppet)
    return puppet
  }

  /// What traffic control has at the interface, as `tc` shows it: a judge that shares no code with what is judged.
  func trafficControl() throws -> String {
    let name = interface.name
    return try run("tc", "qdisc", "show", "dev", name) + "ingress:\n"
      + run("tc", "filter", "show", "dev", name, "ingress")
      + "egress:\n" + run("tc", "filter", "show", "dev", name, "egress") + "actions:\n"
      + run("tc", "actions", "list", "action", "police")
  }

  func remove() throws {
    for puppet in puppets { puppet.quit() }
    _ = try run("ip", "link", "delete", interface.name)
    _ = try run("ip", "netns", "delete", namespace)
  }
}

/// What came through, measured at the end of the way.
struct Throughput: CustomStringConvertible {
  /// Bytes of Ethernet frames a second: what the kernel counts. Ethernet, IP and UDP have 42 bytes of headers.
  let bytesPerSecond: Double
  var description: String { "\(Int(bytesPerSecond * 8 / 1e6)) Mbit/s" }

  /// Sends as fast as possible for a while, after a moment in which what a limit lets through at once has passed.
  static func measure(from sender: Puppet, to receiver: Puppet, milliseconds: Int = 2000) throws -> Throughput {
    _ = sender.ask("run 300")
    _ = receiver.ask("count")
    let sent = sender.ask("run \(milliseconds)").split(separator: " ").compactMap { Double($0) }
    let came = receiver.ask("count").split(separator: " ").compactMap { Double($0) }
    try #require(sent.count == 2 && came.count == 2)
    return Throughput(bytesPerSecond: (came[1] + came[0] * 42) / (sent[1] / 1e6))
  }
}
