// SPDX-License-Identifier: Apache-2.0
public import Migration

/// What the world of a simulated move is like: a virtual machine with RDMA NICs and perhaps GPUs, its peers, two hosts, and
/// the channel between these. The same description and seed give the same run, to the bit.
public struct WorldDescription: Hashable, Sendable {
  /// Who in the guest works out the answers to what peers ask.
  public enum Workload: String, CaseIterable, Hashable, Sendable {
    /// Processors, from data in guest memory.
    case nic
    /// A GPU behind each NIC, from data that RDMA puts into its memory; it rings the NIC itself.
    case nicGPU = "nic-gpu"
  }

  /// How Suspend-Active brings a NIC to rest (DA4).
  public enum Quiescing: String, CaseIterable, Hashable, Sendable {
    /// At once, between two packets. A message half sent stays half sent.
    case betweenPackets = "packets"
    /// Once every work request that was posted is finished: what the paper argues against.
    case drainingMessages = "drain"
  }

  /// Its name, for people.
  public var name: String
  /// What the guest does.
  public var workload: Workload
  /// NICs: 1 to 32. With ``Workload/nicGPU`` there are as many GPUs.
  public var nics = 1
  /// Whether GPUs have P2P states.
  public var gpusHaveP2P = true
  /// Reliable connections of each NIC, with a queue pair each: 1 to 131,072.
  public var connections = 8
  /// Hosts at the other ends: 1 to 64. They are dealt the connections in turn.
  public var peers = 2
  /// Requests on each connection, one after the other's answer: 1 to 1,000,000.
  public var requests = 150
  /// Words of 8 bytes in each request and its answer: 1 to 64.
  public var words = 8
  /// Words of a packet: 1 to 64.
  public var packetWords = 4
  /// Whether peers ask for atomics too, of which a NIC carries out one after the other. With ``Workload/nic``.
  public var usesAtomics = true
  /// Microseconds between an answer and the next request.
  public var pauseMicroseconds: UInt64 = 150
  /// Microseconds from the start to the first request: what a guest needs until its receives are posted.
  public var firstRequestAt: UInt64 = 0
  /// The first requests of a peer's connections are spread over so many microseconds; 0 is all at once.
  public var startMicroseconds: UInt64 = 0
  /// Instructions that a vCPU carries out in a microsecond: 1 to 100,000.
  public var instructionsPerMicrosecond = 8
  /// Words that a device's PCIe link carries in a microsecond, in each direction; 0 is no limit.
  public var pcieWordsPerMicrosecond: UInt64 = 0
  /// Whether the guest maps the buffers of messages just before they are to come, and unmaps them after, so that its
  /// IOMMU's mappings change all the time. With ``Workload/nic``.
  public var remapsBuffers = false
  /// How long a connection goes on without an answer (DA3).
  public var retransmission = RetransmissionSettings()
  /// How NICs come to rest.
  public var quiescing = Quiescing.betweenPackets
  /// The cables between NICs and the switch.
  public var network = NetworkLink()
  /// Whether PCIe ports send what goes from device to device over the root (ACS).
  public var redirectsPeerTransfers = false
  /// Whether drivers' commands go to a PF on another link, so that they pass what is under way to the function: devices
  /// are flushed then before they stop.
  public var commandsGoToPF = false
  /// Microseconds that a change of a NIC's state takes at least, and that a GPU's takes.
  public var arcMicroseconds: UInt64 = 300
  public var gpuArcMicroseconds: UInt64 = 120
  /// Bytes that a device's image takes for each record (an object of a NIC, a page of a GPU), at least 1.
  public var nicRecordBytes = 16 << 10
  public var gpuPageBytes = 64 << 10
  /// Bytes of device state that are read or written in a microsecond.
  public var imageBytesPerMicrosecond: UInt64 = 4000
  /// Bytes that go over the channel for a page of guest memory, at least 64.
  public var guestPageBytes = 4096
  /// The channel between the hosts.
  public var channel = SimulatedLink()
  /// Microseconds that the guest may stand still: it is stopped once that is foretold.
  public var downtimeLimit: UInt64 = 6000
  /// Whether what comes in to NICs is limited where the guest dirties more than goes over the channel (DA9).
  public var throttles = false
  /// What is done in the end where it does all the same.
  public var lastResort = PreCopyConfiguration.LastResort.force
  /// Whether device state is read before the stop (DA8).
  public var preCopies = true
  /// Microseconds from the start to the beginning of the move.
  public var moveAt: UInt64 = 4000
  /// A world that is broken on purpose, to see whether the judge sees it.
  public var sabotage: Sabotage?

  /// A world with the defaults.
  public init(name: String, workload: Workload) {
    self.name = name
    self.workload = workload
    retransmission.baseMicroseconds = 500
    retransmission.limitMicroseconds = 100_000
  }

  /// GPUs.
  public var gpus: Int { workload == .nicGPU ? nics : 0 }

  /// Devices are numbered: NICs first, then GPUs.
  public var devices: Int { nics + gpus }
}

/// How a world can be broken on purpose. The engine stays as it is; what it is told, or what is around it, is wrong.
public enum Sabotage: String, CaseIterable, Hashable, Sendable {
  /// Devices are stopped one after the other.
  case oneByOne = "devices-one-by-one"
  /// From the stop on the PCIe fabric keeps no order.
  case withoutOrder = "pcie-order-lost"
  /// The last reading of dirty pages comes before the devices have stopped.
  case earlyReading = "last-reading-too-early"
  /// The source takes a lost COMMIT for an abort, and runs again.
  case commitAsAbort = "lost-commit-as-abort"
  /// A queue pair has another number on the destination.
  case renumberedQueuePair = "queue-pair-renumbered"
  /// A page of guest memory does not reach the destination.
  case droppedPage = "page-dropped"
  /// The guest resets a device while it is read ahead of the stop, and the trackers are not told.
  case untoldReset = "reset-not-told"

  /// What is broken, in words.
  public var explanation: String {
    switch self {
    case .oneByOne: "devices are stopped one after the other"
    case .withoutOrder: "from the stop on the PCIe fabric keeps no order, and what nothing pushes is late"
    case .earlyReading: "the last reading of dirty pages comes before the devices stop"
    case .commitAsAbort: "the source takes a lost COMMIT for an abort"
    case .renumberedQueuePair: "a queue pair has another number on the destination"
    case .droppedPage: "a page of guest memory does not reach the destination"
    case .untoldReset: "a reset by the guest that is not told to the trackers"
    }
  }
}
