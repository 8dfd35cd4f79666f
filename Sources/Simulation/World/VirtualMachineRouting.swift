// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What each part of a machine puts out becomes the input of another.
extension VirtualMachine {
  // MARK: The fabric

  mutating func send(
    _ packet: FabricPacket, at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    take(fabric.send(packet, at: now, &random), at: now, &random, &outputs)
  }

  mutating func take(
    _ output: Fabric.Output, at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    switch output {
    case .later(let event, let time): outputs.append(.later(.fabric(event), at: time))
    case .delivered(let packet): deliver(packet, at: now, &random, &outputs)
    }
  }

  private mutating func deliver(
    _ packet: FabricPacket, at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    deliveries += 1
    digest.add(packet.digestWord)
    switch packet.body {
    case .command(let number):
      let (device, state) = commands[Int(number)]
      guard Int(number) >= firstCommands[device] else { return }
      drive(
        device: device, nic: .setState(state, number: number), gpu: .setState(state, number: number), at: now, &random,
        &outputs)
    case .commandReply(let number):
      let (device, state) = commands[Int(number)]
      guard Int(number) >= firstCommands[device] else { return }
      areStopped[device] = !state.mayWriteMemory
      outputs.append(.reached(device: device, state))
    case .configReply(let tag): outputs.append(.flushed(device: Int(tag)))
    default:
      let device = deviceOfNode[packet.to]
      if packet.to == 0 {
        deliverToRoot(packet, at: now, &random, &outputs)
      } else if device >= 0 {
        if case .read(_, _, let tag) = packet.body, state(of: device) == .error {
          // Nobody answers: what stands for the end of the reader's patience is a reply with nothing in it.
          send(
            FabricPacket(from: packet.to, to: packet.from, .readReply(tag: tag, words: [])), at: now, &random, &outputs)
        }
        drive(device: device, nic: .packet(packet), gpu: .packet(packet), at: now, &random, &outputs)
      }
    }
  }

  private mutating func deliverToRoot(
    _ packet: FabricPacket, at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    switch packet.body {
    case .write(let address, let words):
      checkWrite(packet, at: now, &outputs)
      iommu.write(address, words, from: packet.requester, to: &memory)
      tellProcessors(at: now, &random, &outputs)
    case .read(let address, let count, let tag):
      let words = iommu.read(address, count, from: packet.requester, in: memory) ?? []
      send(FabricPacket(from: 0, to: packet.from, .readReply(tag: tag, words: words)), at: now, &random, &outputs)
    default: break
    }
  }

  /// What a device starts goes to where its address leads.
  private mutating func access(
    _ address: UInt64, from node: Int, at now: MonotonicTime, _ random: inout SeededGenerator,
    _ outputs: inout [Output], _ body: (UInt64) -> FabricPacket.Body
  ) {
    let destination = iommu.destination(of: address, from: node)
    let body =
      switch destination {
      case .root: body(address)
      case .peer(_, let there): body(there)
      }
    send(FabricPacket(from: node, to: destination.node, body), at: now, &random, &outputs)
  }

  private func reply(to number: UInt64, from node: Int) -> FabricPacket {
    FabricPacket(from: fabric.shape.nodes[node].control, to: 0, .commandReply(number: number))
  }

  // MARK: Devices

  mutating func drive(
    nic: Int, _ input: NICFunction.Input, at now: MonotonicTime, _ random: inout SeededGenerator,
    _ outputs: inout [Output]
  ) {
    let node = nodes[nic]
    var results: [NICFunction.Output] = []
    swap(&results, &nicOutputs)
    results.removeAll(keepingCapacity: true)
    nics[nic].handle(input, at: now, into: &results)
    for output in results {
      switch output {
      case .access(.write(let address, let words)):
        access(address, from: node, at: now, &random, &outputs) { .write(address: $0, words: words) }
      case .access(.read(let address, let count, let tag)):
        access(address, from: node, at: now, &random, &outputs) {
          .read(address: $0, words: count, tag: UInt64(tag))
        }
      // The guest's software polls.
      case .access(.interrupt): break
      case .send(let packet): outputs.append(.send(packet, nic: nic))
      case .reply(let body, let to): send(FabricPacket(from: node, to: to, body), at: now, &random, &outputs)
      case .commandReply(let number): send(reply(to: number, from: node), at: now, &random, &outputs)
      case .later(let event, let time): outputs.append(.later(.nic(nic, event), at: time))
      case .arrivedWhileStopped(let packet):
        if !isOfFailed(packet) { outputs.append(violation(at: now, nic, .arrivedAtStopped, packet)) }
      }
    }
    swap(&results, &nicOutputs)
    tellState(of: nic, &outputs)
  }

  mutating func drive(
    gpu: Int, _ input: GPU.Input, at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    let node = nodes[nics.count + gpu]
    for output in gpus[gpu].handle(input, at: now, &random) {
      switch output {
      case .access(let address, let words):
        access(address, from: node, at: now, &random, &outputs) { .write(address: $0, words: words) }
      case .reply(let body, let to): send(FabricPacket(from: node, to: to, body), at: now, &random, &outputs)
      case .commandReply(let number): send(reply(to: number, from: node), at: now, &random, &outputs)
      case .later(let event, let time): outputs.append(.later(.gpu(gpu, event), at: time))
      case .arrivedWhileStopped(let packet):
        if !isOfFailed(packet) { outputs.append(violation(at: now, nics.count + gpu, .arrivedAtStopped, packet)) }
      }
    }
    tellState(of: nics.count + gpu, &outputs)
  }

  // MARK: Processors

  mutating func drive(
    processors input: VirtualCPUs.Input, at now: MonotonicTime, _ random: inout SeededGenerator,
    _ outputs: inout [Output]
  ) {
    take(processors.handle(input, &memory, at: now, &random), at: now, &random, &outputs)
    tellProcessors(at: now, &random, &outputs)
  }

  /// Processors that wait for a page see that it was written.
  private mutating func tellProcessors(
    at now: MonotonicTime, _ random: inout SeededGenerator, _ outputs: inout [Output]
  ) {
    while !memory.touched.isEmpty {
      for page in memory.takeTouched() {
        take(processors.handle(.touched(page: page), &memory, at: now, &random), at: now, &random, &outputs)
      }
    }
  }

  /// Whether the guest's page table has those pages.
  private func isMappable(_ pages: Range<Int>) -> Bool { pages.upperBound <= layout.devicePages }

  private mutating func take(
    _ results: [VirtualCPUs.Output], at now: MonotonicTime, _ random: inout SeededGenerator,
    _ outputs: inout [Output]
  ) {
    for output in results {
      switch output {
      case .later(let event, let time): outputs.append(.later(.processors(event), at: time))
      case .write(let node, let address, let words):
        send(FabricPacket(from: 0, to: node, .write(address: address, words: words)), at: now, &random, &outputs)
      case .map(let domain, let pages, let target):
        guard isMappable(pages), 0...layout.guestPages ~= target + pages.count else { continue }
        iommu.readDirty(pages, in: domain, clearing: true, into: &unmappedDirty)
        iommu.map(pages, to: .memory(page: target), in: domain)
      case .unmap(let domain, let pages):
        guard isMappable(pages) else { continue }
        iommu.readDirty(pages, in: domain, clearing: false, into: &unmappedDirty)
        iommu.unmap(pages, in: domain)
      case .reset(let node):
        let device = deviceOfNode[node]
        if device >= 0 { reset(device, at: now, &random, &outputs) }
      case .halted(let cpu): outputs.append(.halted(processor: cpu))
      }
    }
  }
}

extension FabricPacket {
  /// What of a packet goes into the digest of a run: where it came from and went to, and what it was.
  fileprivate var digestWord: UInt64 {
    let content: UInt64 =
      switch body {
      case .write(let address, let words): address &+ (words.first ?? 0)
      case .read(let address, let count, let tag): address &+ UInt64(count) &+ tag << 32
      case .readReply(let tag, let words): tag &+ (words.first ?? 0)
      case .command(let number), .commandReply(let number): number
      case .configRead(let tag), .configReply(let tag): tag
      }
    return SeededGenerator.mixed(content) &+ UInt64(from) << 32 &+ UInt64(to) << 8 &+ UInt64(kind.rawValue)
  }
}
