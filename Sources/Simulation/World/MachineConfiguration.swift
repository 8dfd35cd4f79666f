// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What a virtual machine is like, the same on every host that it may run on.
struct MachineConfiguration: Hashable, Sendable {
  /// Who works out the answers to what peers ask.
  enum Workload: Hashable, Sendable {
    /// Processors, from data in guest memory.
    case nic
    /// A GPU behind each NIC, from data that RDMA puts into its memory.
    case nicGPU
  }

  /// Where drivers' commands enter a device.
  enum ControlPath: Hashable, Sendable {
    /// At the function itself, behind whatever else goes to it.
    case ownFunction
    /// At a PF that has a link of its own: they pass what goes to the function, and a flush is needed.
    case otherLink
  }

  var workload = Workload.nic
  /// NICs, and as many GPUs where the workload has them.
  var nics = 1
  /// Connections of each NIC.
  var connections = 4
  /// Processors that share a NIC's connections; a GPU has one that feeds it.
  var processorsPerNIC = 1
  /// How fast each is.
  var processorSpeed = VirtualCPUs.Configuration()
  /// Requests of each connection, and words of each.
  var requests = 20
  var words = 8
  var mtuWords = 8
  var retransmission = RetransmissionSettings()
  var quiescing = RDMANIC.Quiescing.betweenPackets
  var arcMicroseconds: UInt64 = 20
  /// The same for GPUs; nil is as long.
  var gpuArcMicroseconds: UInt64?
  /// Whether the guest maps the buffers of messages just before they are to come, and unmaps them after, so that its
  /// IOMMU's mappings change all the time. With ``Workload/nic``.
  var remapsBuffers = false
  /// How long a GPU's kernel works on a word.
  var kernelMicrosecondsPerWord: UInt64 = 1
  var controlPath = ControlPath.ownFunction
  var accessControl: FabricShape.AccessControl = []
  var switchLink = FabricShape.Link(delay: 1, spread: 4)
  var deviceLink = FabricShape.Link(delay: 1, spread: 8)
  /// PCIe's order; without, a world that is broken on purpose.
  var keepsOrder = true

  init() {
    retransmission.baseMicroseconds = 500
    retransmission.limitMicroseconds = 100_000
  }

  var gpus: Int { workload == .nicGPU ? nics : 0 }

  /// Devices have numbers: NICs first, then GPUs.
  var devices: Int { nics + gpus }

  /// Who answers.
  var answerer: PeerAnswerer { workload == .nic ? .processor : .gpu }

  /// The address of a NIC on the network.
  static func networkAddress(_ nic: Int) -> UInt32 { 7 + UInt32(nic) }

  func nicConfiguration(_ nic: Int) -> RDMANIC.Configuration {
    var configuration = RDMANIC.Configuration(networkAddress: Self.networkAddress(nic))
    configuration.quiescing = quiescing
    // The first receives of many connections are posted after a while: peers must not come back over and over until then.
    configuration.receiverNotReadyMicroseconds = max(100, UInt32(connections))
    return configuration
  }

  /// The fabric, and the node of each device.
  func shape() -> (shape: FabricShape, nodes: [Int]) {
    var shape = FabricShape()
    var nodes: [Int] = []
    let ports = (0..<nics).map { _ in shape.addSwitch(under: 0, switchLink) }
    let controls: [Int?] = (0..<devices).map { _ in
      controlPath == .ownFunction ? nil : shape.addFunction(under: 0, deviceLink)
    }
    for device in 0..<devices {
      nodes.append(
        shape.addFunction(
          under: ports[device % nics], deviceLink, accessControl: accessControl, control: controls[device]))
    }
    return (shape, nodes)
  }
}
