// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// A virtual machine on a host: processors, memory, and devices that reach each other over a PCIe fabric and an IOMMU.
///
/// It is a value that takes an input and gives outputs; who drives it owns the clock, the network and the other host. Its
/// devices are numbered: NICs first, then GPUs.
struct VirtualMachine: Sendable {
  enum Input: Sendable {
    /// What it asked to get back.
    case event(Event)
    /// Something has arrived at a NIC from the network.
    case network(RDMAPacket, nic: Int)
    case startProcessors
    case stopProcessors
    /// A device's driver sends the command to go to that state; ``Output/reached(device:_:)`` says when it knows that it
    /// is done. A device has one command at a time.
    case setState(device: Int, MigrationState)
    /// A device is reset: it runs and has nothing in it. A command under way is never answered.
    case reset(device: Int)
    /// The guest resets a device, and its driver sets it up anew as far as it can without peers.
    case resetByGuest(device: Int)
    /// A device fails: it is in ERROR.
    case fail(device: Int)
    /// A device's configuration space is read: what went to it before from the root has arrived when the answer is there,
    /// and so has what it wrote to memory before it answered.
    case flush(device: Int)
  }

  /// To be handed back at its time.
  enum Event: Hashable, Sendable {
    case fabric(Fabric.Event)
    case processors(VirtualCPUs.Event)
    case nic(Int, NICFunction.Event)
    case gpu(Int, GPU.Event)
  }

  /// What follows.
  enum Output: Hashable, Sendable {
    /// Hand this back at that time.
    case later(Event, at: MonotonicTime)
    /// A NIC sends to the network.
    case send(RDMAPacket, nic: Int)
    /// The device's answer has arrived at its driver.
    case reached(device: Int, MigrationState)
    /// The answer to a flush has arrived.
    case flushed(device: Int)
    /// Something was done to or by a device that was stopped.
    case violation(MachineViolation)
    /// A device is in that state from now on.
    case entered(device: Int, MigrationState)
    /// Whether peers can reach what is behind a NIC, from now on.
    case serves(nic: Int, Bool)
    /// A processor has come to its end.
    case halted(processor: Int)
  }

  /// The number of its host.
  let host: Int
  let layout: MachineLayout
  let nodes: [Int]
  /// The device at each node, or -1.
  let deviceOfNode: [Int]
  var fabric: Fabric
  var iommu: IOMMU
  var memory: GuestMemory
  var processors: VirtualCPUs
  var nics: [NICFunction]
  var gpus: [GPU]
  /// Guest pages whose dirty bits were read before the guest unmapped them.
  var unmappedDirty: PageSet
  /// What every driver's command was, by its number.
  var commands: [(device: Int, state: MigrationState)] = []
  /// Commands of a device before that number are void, because it was reset or failed since.
  var firstCommands: [Int]
  /// Devices that have answered that they are stopped, and were sent no command out of it since.
  var areStopped: [Bool]
  /// The last state of each device, and whether each NIC served, that were told.
  var toldStates: [MigrationState]
  var toldServing: [Bool]
  /// What was delivered so far, in order.
  var digest = RunDigest()
  /// Packets that were delivered.
  var deliveries = 0
  var nicOutputs: [NICFunction.Output] = []

  /// The page table that all devices share.
  static let domain = 0

  /// A machine whose devices run and have nothing in them, with empty memory and processors that stand still.
  init(_ configuration: MachineConfiguration, host: Int = 0) {
    self.host = host
    layout = MachineLayout(configuration)
    let (shape, nodes) = configuration.shape()
    self.nodes = nodes
    deviceOfNode = shape.nodes.indices.map { nodes.firstIndex(of: $0) ?? -1 }
    fabric = Fabric(shape, keepsOrder: configuration.keepsOrder)
    iommu = IOMMU(domains: 1, pages: layout.devicePages, nodes: shape.nodes.count)
    memory = GuestMemory(pages: layout.guestPages)
    unmappedDirty = PageSet(capacity: layout.guestPages)
    nics = (0..<configuration.nics).map {
      NICFunction(RDMANIC(configuration.nicConfiguration($0)), arcMicroseconds: configuration.arcMicroseconds)
    }
    gpus = (0..<configuration.gpus).map { [layout] _ in GPU(layout.gpuConfiguration) }
    firstCommands = Array(repeating: 0, count: configuration.devices)
    areStopped = Array(repeating: false, count: configuration.devices)
    toldStates = Array(repeating: .running, count: configuration.devices)
    toldServing = Array(repeating: false, count: configuration.nics)
    processors = VirtualCPUs(Self.programs(layout, nodes), configuration.processorSpeed)
    for node in nodes { iommu.attach(node: node, to: Self.domain) }
    iommu.map(0..<layout.guestPages, to: .memory(page: 0), in: Self.domain)
    for nic in nics.indices {
      let page = layout.nicBAR(nic)
      iommu.map(page..<page + 1, to: .peer(node: nodes[nic], page: 0), in: Self.domain)
    }
    for gpu in gpus.indices {
      let page = layout.gpuBAR(gpu)
      let node = nodes[nics.count + gpu]
      iommu.map(page..<page + layout.gpuPages + 1, to: .peer(node: node, page: 0), in: Self.domain)
    }
  }

  private static func programs(_ layout: MachineLayout, _ nodes: [Int]) -> [GuestProgram] {
    (0..<layout.processors).map { processor in
      let nic = processor / layout.processorsPerNIC
      return layout.configuration.workload == .nic
        ? ProcessorService(layout: layout, processor: processor, nic: nodes[nic]).program
        : GPUService(
          layout: layout, processor: processor, nic: nodes[nic], gpu: nodes[layout.configuration.nics + nic]
        ).program
    }
  }

  /// Whether nothing is under way on its fabric.
  var isFabricEmpty: Bool { fabric.packetsUnderWay == 0 }

  /// Takes an input, and appends what comes of it.
  mutating func handle(
    _ input: Input, at now: MonotonicTime, _ random: inout SeededGenerator, into outputs: inout [Output]
  ) {
    switch input {
    case .event(.fabric(let event)):
      take(fabric.handle(event, at: now, &random), at: now, &random, &outputs)
    case .event(.processors(let event)): drive(processors: .event(event), at: now, &random, &outputs)
    case .event(.nic(let nic, let event)): drive(nic: nic, .event(event), at: now, &random, &outputs)
    case .event(.gpu(let gpu, let event)): drive(gpu: gpu, .event(event), at: now, &random, &outputs)
    case .network(let packet, let nic): drive(nic: nic, .network(packet), at: now, &random, &outputs)
    case .startProcessors: drive(processors: .start, at: now, &random, &outputs)
    case .stopProcessors: drive(processors: .stop, at: now, &random, &outputs)
    case .reset(let device): reset(device, at: now, &random, &outputs)
    case .resetByGuest(let device):
      reset(device, at: now, &random, &outputs)
      if device < nics.count { setUpAfterReset(nic: device) }
    case .fail(let device):
      forgetCommands(of: device)
      drive(device: device, nic: .fail, gpu: .fail, at: now, &random, &outputs)
    case .setState(let device, let state):
      commands.append((device, state))
      if state.mayWriteMemory { areStopped[device] = false }
      let number = UInt64(commands.count - 1)
      let control = fabric.shape.nodes[nodes[device]].control
      send(FabricPacket(from: 0, to: control, .command(number: number)), at: now, &random, &outputs)
    case .flush(let device):
      send(FabricPacket(from: 0, to: nodes[device], .configRead(tag: UInt64(device))), at: now, &random, &outputs)
    }
  }
}
