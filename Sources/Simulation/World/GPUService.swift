// SPDX-License-Identifier: Apache-2.0

/// The software of a processor that keeps a GPU in work on what peers send.
///
/// RDMA writes a request's data into the GPU's memory, and its header behind it into the word that the kernel waits for. The
/// kernel turns the data into the answer and rings the NIC, which reads it from the GPU. The processor only fills the ring,
/// in an order that does not depend on who is faster, and collects the results' digests.
struct GPUService {
  let layout: MachineLayout
  let processor: Int
  /// The nodes of its NIC and its GPU.
  let nic: Int
  let gpu: Int

  private enum Register {
    static let step = 0, kernel = 1, done = 2, round = 3, connection = 4, digest = 5, header = 6, words = 7
    static let count = 15
  }

  private var connections: Int { layout.configuration.connections }

  /// A kernel as it is in its first round; later rounds add to its flag's value and its doorbell.
  func template(_ number: Int) -> GPUKernel {
    let connection = number % connections
    var kernel = GPUKernel()
    kernel.flag = layout.flag(connection)
    kernel.flagValue = PeerHeader(request: .writeAndSend, words: layout.configuration.words, number: 0).word
    kernel.input = layout.input(connection)
    kernel.output = layout.message(number) + 8
    kernel.count = layout.configuration.words
    let queuePair = MachineLayout.queuePair(processor * connections + connection)
    let doorbell = RDMADoorbell(queue: .send, queuePair: queuePair, producerIndex: 1)
    kernel.doorbell = Page.address(layout.nicBAR(processor)) + doorbell.queue.rawValue
    kernel.doorbellValue = doorbell.word
    kernel.result = layout.results(processor) + Page.address(number)
    return kernel
  }

  var program: GuestProgram {
    typealias R = Register
    let total = UInt64(layout.configuration.requests * connections)
    let ahead = UInt64((MachineLayout.depth - 1) * connections)
    let result = GuestProgram.Address(layout.results(processor), index: R.done)
    let digest = GuestProgram.Address(layout.processor(processor))
    let doorbell = GPU(layout.gpuConfiguration).doorbellAddress
    var code: [GuestProgram.Instruction] = [
      .set(R.kernel, .register(R.step)), .remainder(R.kernel, .constant(UInt64(layout.kernels))),
      .jumpIfLess(R.step, .constant(ahead), to: 9),
      // The kernel that was put in so many steps ago.
      .set(R.done, .register(R.step)), .add(R.done, .constant(UInt64(connections))),
      .remainder(R.done, .constant(UInt64(layout.kernels))),
      .wait(result, atLeast: 1), .load(R.count, result), .jump(to: 12),
      .jumpIfLess(R.step, .constant(total), to: 17), .jump(to: 0), .halt,
      .load(R.digest, digest), .mix(R.digest, .register(R.count)), .store(digest, .register(R.digest)),
      .store(result, 0), .jump(to: 9),
    ]
    for word in 0..<Page.words {
      code.append(
        .load(R.words + word, GuestProgram.Address(layout.templates(processor) + 8 * UInt64(word), index: R.kernel)))
    }
    code += [
      .add(R.words + 1, .register(R.round)), .add(R.words + 6, .register(R.round)),
      .set(R.header, .register(R.words + 1)), .add(R.header, .constant(1 << 63)),
      .write(
        node: gpu, GuestProgram.Address(layout.message(0), index: R.kernel, stride: layout.messageBytes),
        [.register(R.header)]),
      .write(node: gpu, GuestProgram.Address(0, index: R.kernel), (0..<Page.words).map { .register(R.words + $0) }),
      // The same word tells of as many receives as of answers.
      .write(
        node: nic, GuestProgram.Address(RDMADoorbell.Queue.receive.rawValue), [.register(R.words + 6)]),
      .set(R.count, .register(R.step)), .add(R.count, 1),
      .write(node: gpu, GuestProgram.Address(doorbell), [.register(R.count)]),
      .add(R.connection, 1),
    ]
    code.append(.jumpIfLess(R.connection, .constant(UInt64(connections)), to: code.count + 3))
    code += [.set(R.connection, 0), .add(R.round, 1)]
    code[10] = .jump(to: code.count)
    code += [.add(R.step, 1), .jumpIfLess(R.step, .constant(total + ahead), to: 0), .halt]
    return GuestProgram(code)
  }
}
