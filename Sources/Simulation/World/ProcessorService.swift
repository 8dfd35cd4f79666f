// SPDX-License-Identifier: Apache-2.0

/// The software of a processor that answers what peers ask of a NIC.
///
/// It waits for a completion, works out the answer from the message or from what was written beside it, and sends it. What
/// it has taken from its completion queue it wipes out, so that in the end memory is the same in whichever order
/// connections had their turn.
struct ProcessorService {
  let layout: MachineLayout
  let processor: Int
  /// The node of its NIC.
  let nic: Int

  private enum Register {
    static let page = 0, queuePair = 1, work = 2, region = 3, message = 4, header = 5, word = 6
    static let progress = 7, reply = 8, doorbell = 9, slot = 10
    static let buffer = 11
  }

  /// With this ``GuestProgram/Instruction/mix(_:_:)`` makes the answer: it mixes in a multiple of its value.
  private static let answerFactor: UInt64 = {
    // Each round of Newton's doubles the bits that are right of the inverse of an odd number.
    let factor: UInt64 = 0xd6e8_feb8_6659_fd93
    var inverse = factor
    for _ in 0..<6 { inverse = inverse &* (2 &- factor &* inverse) }
    return inverse &* 0x5851_f42d_4c95_7f2d
  }()

  private static let success: UInt64 = 0x100

  var program: GuestProgram {
    typealias R = Register
    var code: [GuestProgram.Instruction] = []
    // What is posted at first was put into the queues before the machine started.
    for connection in layout.connections(of: processor) {
      if layout.configuration.remapsBuffers {
        let pages = Page.number(layout.region(connection) + layout.receives)
        code.append(.map(domain: VirtualMachine.domain, pages: window(pages, MachineLayout.depth), to: pages))
      }
      let doorbell = RDMADoorbell(
        queue: .receive, queuePair: MachineLayout.queuePair(connection), producerIndex: UInt32(MachineLayout.depth))
      code.append(.write(node: nic, GuestProgram.Address(doorbell.queue.rawValue), [.constant(doorbell.word)]))
    }
    code.append(.set(R.page, 0))
    let start = code.count
    // Two slots of the completion queue are in a page.
    for half in 0..<2 { answer(UInt64(half * RDMACompletion.slotWords * 8), &code) }
    code += [
      .add(R.page, 1), .remainder(R.page, .constant(UInt64(layout.completionSlots / 2))), .jump(to: start),
    ]
    return GuestProgram(code)
  }

  private func answer(_ offset: UInt64, _ code: inout [GuestProgram.Instruction]) {
    typealias R = Register
    let completion = layout.completions(processor) + offset
    func slot(_ word: UInt64) -> GuestProgram.Address { .init(completion + 8 * word, index: R.page) }
    code += [
      .wait(slot(0), atLeast: 1), .load(R.queuePair, slot(0)), .shiftRight(R.queuePair, 32), .load(R.work, slot(1)),
      .store(slot(0), 0), .store(slot(1), 0), .store(slot(2), 0),
      .set(R.word, .register(R.work)), .shiftRight(R.word, 32),
    ]
    // Anything but a message that came is an error: answers are not told of when they are sent.
    let error = code.count
    code += Array(repeating: .halt, count: 6)
    code += [
      .set(R.region, .register(R.queuePair)), .add(R.region, .constant(0 &- UInt64(MachineLayout.queuePair(0)))),
      .multiply(R.region, .constant(Page.address(layout.regionPages))),
      .and(R.work, .constant(UInt64(MachineLayout.depth - 1))), .multiply(R.work, .constant(layout.messageBytes)),
      .set(R.message, .register(R.region)), .add(R.message, .register(R.work)),
      .add(R.message, .constant(layout.receives)),
      .load(R.progress, field(layout.progress)), .set(R.slot, .register(R.progress)),
      .and(R.slot, .constant(UInt64(MachineLayout.depth - 1))),
      .set(R.reply, .register(R.slot)), .multiply(R.reply, .constant(layout.messageBytes)),
      .add(R.reply, .register(R.region)), .add(R.reply, .constant(layout.replies)),
      .load(R.header, at(R.message, 0)), .set(R.word, .register(R.header)), .add(R.word, .constant(1 << 63)),
      .store(at(R.reply, 0), .register(R.word)),
      .shiftRight(R.header, 48),
    ]
    // The data is in the message, or beside it.
    let choice = code.count
    code.append(.halt)
    for word in 0..<layout.configuration.words { answer(word, from: at(R.message, 1 + word), &code) }
    let jump = code.count
    code.append(.halt)
    code[choice] = .jumpIfLess(R.header, .constant(UInt64(PeerRequest.send.rawValue)), to: code.count)
    for word in 0..<layout.configuration.words {
      answer(word, from: field(layout.data + Page.address(ofWord: word)), &code)
    }
    code[jump] = .jump(to: code.count)
    if layout.configuration.remapsBuffers {
      code += [
        .set(R.buffer, .register(R.message)), .shiftRight(R.buffer, 12),
        .unmap(domain: VirtualMachine.domain, pages: window(0, 1), index: .init(register: R.buffer)),
      ]
    }
    code += send
    code.replaceSubrange(
      error..<error + 6,
      with: [
        .jumpIfLess(R.word, .constant(Self.success), to: error + 2),
        .jumpIfLess(R.word, .constant(Self.success + 1), to: error + 6),
        .load(R.word, GuestProgram.Address(layout.processor(processor))), .add(R.word, 1),
        .store(GuestProgram.Address(layout.processor(processor)), .register(R.word)), .jump(to: code.count),
      ])
  }

  /// One word of the answer.
  private func answer(
    _ word: Int, from source: GuestProgram.Address, _ code: inout [GuestProgram.Instruction]
  ) {
    code += [
      .load(Register.word, source), .mix(Register.word, .constant(Self.answerFactor)),
      .store(at(Register.reply, 1 + word), .register(Register.word)),
    ]
  }

  /// Posts the answer, and the receive for the message after the next ones.
  private var send: [GuestProgram.Instruction] {
    typealias R = Register
    let work = layout.reply(0)
    return [
      .multiply(R.slot, .constant(Page.bytes)), .add(R.slot, .register(R.region)),
      .store(at(R.slot, 0), .constant(work.slot[0])), .store(at(R.slot, 1), .register(R.reply)),
      .store(at(R.slot, 3), .constant(work.slot[3])),
      .add(R.progress, 1), .store(field(layout.progress), .register(R.progress)),
      .set(R.doorbell, .register(R.queuePair)), .multiply(R.doorbell, .constant(1 << 32)),
      .add(R.doorbell, .register(R.progress)),
      .write(node: nic, GuestProgram.Address(RDMADoorbell.Queue.send.rawValue), [.register(R.doorbell)]),
      .add(R.doorbell, .constant(UInt64(MachineLayout.depth))),
    ] + mapBuffer + [
      .write(node: nic, GuestProgram.Address(RDMADoorbell.Queue.receive.rawValue), [.register(R.doorbell)])
    ]
  }

  /// The buffer of the message that was taken is that of the receive to be posted.
  private var mapBuffer: [GuestProgram.Instruction] {
    guard layout.configuration.remapsBuffers else { return [] }
    return [
      .map(domain: VirtualMachine.domain, pages: window(0, 1), to: 0, index: .init(register: Register.buffer))
    ]
  }

  /// Where a device sees so many messages, from that page of guest memory on.
  private func window(_ page: Int, _ messages: Int) -> Range<Int> {
    let first = layout.firstWindow + page
    return first..<first + messages * layout.messagePages
  }

  private func field(_ offset: UInt64) -> GuestProgram.Address { .init(offset, index: Register.region, stride: 1) }

  private func at(_ register: Int, _ word: Int) -> GuestProgram.Address {
    .init(Page.address(ofWord: word), index: register, stride: 1)
  }
}

extension MachineLayout {
  /// The work request that sends an answer which lies at an address. Only its failure is told of.
  func reply(_ address: UInt64) -> RDMAWorkRequest {
    RDMAWorkRequest(
      operation: .send, isSignaled: false, words: 1 + configuration.words, localAddress: address, localKey: Self.key)
  }
}
