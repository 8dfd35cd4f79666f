// SPDX-License-Identifier: Apache-2.0

/// The worlds that need no file. Each is of a size that a run takes a moment, and busy from the start of its move to
/// the end.
public enum BuiltInWorld: String, CaseIterable, Sendable {
  /// One NIC; processors answer.
  case nic
  /// A NIC and a GPU that write to each other.
  case nicGPU = "nic-gpu"
  /// Eight NICs with a GPU each.
  case hgx
  /// A NIC with P2P states and a GPU without.
  case mixed

  /// What it is like. Its name is the raw value.
  public var description: WorldDescription {
    var world = WorldDescription(name: rawValue, workload: self == .nic ? .nic : .nicGPU)
    switch self {
    case .nic, .nicGPU: break
    case .hgx:
      world.nics = 8
      world.connections = 2
      world.peers = 4
      // As much bandwidth to each device as in the others would take eight times as long.
      world.channel.bytesPerMicrosecond = 12_500
    case .mixed:
      world.gpusHaveP2P = false
    }
    return world
  }

  /// What it is, in one line.
  public var summary: String {
    switch self {
    case .nic: "an RDMA NIC with 8 connections; processors of the guest answer"
    case .nicGPU: "an RDMA NIC and a GPU that write to each other, with 8 connections"
    case .hgx: "eight RDMA NICs with a GPU each, as in a large GPU server, with 16 connections"
    case .mixed: "an RDMA NIC and a GPU that has no P2P states, with 8 connections"
    }
  }
}
