// SPDX-License-Identifier: Apache-2.0

/// What the guest's drivers and software have done before the peers begin: objects of the NICs, queues in memory, kernels.
extension VirtualMachine {
  private static func completionQueue(ofProcessor processor: Int) -> UInt32 { 0x100 + UInt32(processor) }
  private static func completionQueue(ofConnection connection: Int) -> UInt32 { 0x1000 + UInt32(connection) }

  /// Sets up everything for connections to those peers' queue pairs, by the connection's number.
  mutating func setUpGuest(_ peers: [(address: UInt32, queuePair: UInt32)]) throws(RDMACommandError) {
    for nic in nics.indices { try setUp(nic: nic) }
    for processor in 0..<layout.processors {
      if layout.configuration.workload == .nicGPU { putTemplates(processor) }
      for connection in layout.connections(of: processor) {
        try setUp(connection, nic: processor / layout.processorsPerNIC, processor: processor, peers[connection])
      }
    }
    for nic in nics.indices { toldServing[nic] = nics[nic].nic.isServing }
  }

  /// Makes what a NIC needs before it has connections: its memory region and its completion queues.
  mutating func setUp(nic: Int) throws(RDMACommandError) {
    let configuration = layout.configuration
    try nics[nic].nic.register(
      RDMAMemoryRegion(
        key: MachineLayout.key, address: 0, bytes: Page.address(layout.devicePages), access: .everything))
    if configuration.workload == .nicGPU {
      for connection in nic * configuration.connections..<(nic + 1) * configuration.connections {
        try nics[nic].nic.makeCompletionQueue(
          Self.completionQueue(ofConnection: connection),
          ring: .init(
            address: layout.region(connection) + layout.completionQueue, depth: UInt32(MachineLayout.depth)))
      }
      return
    }
    for processor in nic * layout.processorsPerNIC..<(nic + 1) * layout.processorsPerNIC {
      try nics[nic].nic.makeCompletionQueue(
        Self.completionQueue(ofProcessor: processor),
        ring: .init(address: layout.completions(processor), depth: UInt32(layout.completionSlots)))
    }
  }

  private mutating func setUp(
    _ connection: Int, nic: Int, processor: Int, _ peer: (address: UInt32, queuePair: UInt32)
  ) throws(RDMACommandError) {
    let configuration = layout.configuration
    let region = layout.region(connection)
    let depth = UInt32(MachineLayout.depth)
    let completions =
      configuration.workload == .nicGPU
      ? Self.completionQueue(ofConnection: connection) : Self.completionQueue(ofProcessor: processor)
    let attributes = RDMAQueuePairAttributes(
      number: MachineLayout.queuePair(connection), peerAddress: peer.address, peerNumber: peer.queuePair,
      sendQueue: .init(address: region + layout.sendQueue, depth: depth),
      receiveQueue: .init(address: region + layout.receiveQueue, depth: depth), sendCompletions: completions,
      receiveCompletions: completions, mtuWords: configuration.mtuWords, retransmission: configuration.retransmission)
    try nics[nic].nic.makeQueuePair(attributes)
    for slot in 0..<depth {
      var receive = RDMAReceive(
        address: layout.receiveAddress(region + layout.receives + UInt64(slot) * layout.messageBytes),
        key: MachineLayout.key, words: 1 + configuration.words)
      var work = layout.reply(region + layout.replies + UInt64(slot) * layout.messageBytes)
      if configuration.workload == .nicGPU {
        let local = connection % configuration.connections
        receive = RDMAReceive(address: layout.seen(layout.flag(local), of: nic), key: MachineLayout.key, words: 1)
        let kernel = Int(slot) * configuration.connections + local
        work.localAddress = layout.seen(layout.message(kernel), of: nic)
      }
      store(attributes.receiveQueue.address(of: slot, slotWords: RDMAReceive.slotWords), receive.slot)
      store(attributes.sendQueue.address(of: slot, slotWords: RDMAWorkRequest.slotWords), work.slot)
    }
  }

  private mutating func putTemplates(_ processor: Int) {
    let service = GPUService(
      layout: layout, processor: processor, nic: nodes[processor], gpu: nodes[nics.count + processor])
    for kernel in 0..<layout.kernels {
      store(layout.templates(processor) + Page.address(kernel), service.template(kernel).words)
    }
  }

  private mutating func store(_ address: UInt64, _ words: [UInt64]) {
    for (offset, word) in words.enumerated() {
      _ = memory.writeByProcessor(Page.advanced(address, by: offset), word)
    }
  }
}
