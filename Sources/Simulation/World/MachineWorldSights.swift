// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What a judge asks of a world.
extension MachineWorld {
  /// Whether the run has lost its way: it has had more events than any that comes to an end.
  var isExhausted: Bool { events >= configuration.mostEvents }

  /// By NIC: whether its guest reset it, or the GPU that works for it.
  var nicsResetByGuest: [Bool] {
    let nics = configuration.machine.nics
    return (0..<nics).map { nic in guestResets.indices.contains { guestResets[$0] && $0 % nics == nic } }
  }

  /// The NIC at the other end of a peer's connection, by the connection's place among the peer's.
  func nic(ofPeer peer: Int, connection: Int) -> Int {
    (peer + connection * configuration.peers) / configuration.machine.connections
  }
}

extension MachineViolation: CustomStringConvertible {
  var description: String {
    let what =
      switch packet.body {
      case .write(let address, _): "a write to 0x\(String(address, radix: 16))"
      case .read: "a read"
      case .readReply: "the answer to a read"
      case .command, .commandReply: "a command"
      case .configRead, .configReply: "a reading of its configuration space"
      }
    let host = host == 0 ? SimulatedSide.source : .destination
    return switch kind {
    case .arrivedAtStopped:
      "\(time.microseconds): \(what) arrived at device \(device) of the \(host), which was stopped"
    case .wroteWhileStopped:
      "\(time.microseconds): device \(device) of the \(host) wrote to guest memory after it had said that it is stopped"
    }
  }
}
