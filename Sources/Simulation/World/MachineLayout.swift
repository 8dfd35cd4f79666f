// SPDX-License-Identifier: Apache-2.0

/// Where in a machine things are: in guest memory, behind BARs, and where devices see those.
///
/// Guest memory begins with the connections, one region each, then come the processors' own pages. A device sees memory
/// at its own addresses, and the BARs behind it.
struct MachineLayout: Hashable, Sendable {
  /// Entries of a send queue and of a receive queue, messages that are kept for each.
  static let depth = 4
  static let key: UInt32 = 0x5a_0017

  let configuration: MachineConfiguration
  /// Pages of a message (a header and the data), and of data alone.
  let messagePages: Int
  let dataPages: Int

  init(_ configuration: MachineConfiguration) {
    self.configuration = configuration
    messagePages = (configuration.words + Page.words) / Page.words
    dataPages = (configuration.words + Page.words - 1) / Page.words
  }

  // MARK: A connection's region of guest memory

  var connections: Int { configuration.nics * configuration.connections }
  var regionPages: Int { 10 + dataPages + 2 * Self.depth * messagePages }

  func region(_ connection: Int) -> UInt64 { Page.address(connection * regionPages) }

  /// Offsets in a region.
  var sendQueue: UInt64 { Page.address(0) }
  var receiveQueue: UInt64 { Page.address(4) }
  /// A completion queue of the connection's own, where no processor looks at it.
  var completionQueue: UInt64 { Page.address(6) }
  /// Word 0: how many messages were answered.
  var progress: UInt64 { Page.address(8) }
  var counter: UInt64 { Page.address(9) }
  var data: UInt64 { Page.address(10) }
  var receives: UInt64 { Page.address(10 + dataPages) }
  var replies: UInt64 { Page.address(10 + dataPages + Self.depth * messagePages) }
  var messageBytes: UInt64 { Page.address(messagePages) }

  /// The numbers of queue pairs. They don't begin at 0, so that one that is made anew shows.
  static func queuePair(_ connection: Int) -> UInt32 { 0x1003 + UInt32(connection) }

  // MARK: A processor's region

  var processors: Int { configuration.nics * processorsPerNIC }
  var processorsPerNIC: Int { configuration.workload == .nic ? configuration.processorsPerNIC : 1 }

  /// Slots of a processor's completion queue: two for each connection.
  var completionSlots: Int {
    var slots = 4
    while slots < 2 * configuration.connections { slots *= 2 }
    return slots
  }

  /// Kernels of a GPU that may be waiting.
  var kernels: Int { Self.depth * configuration.connections }

  /// `nic`: errors, then the completion queue. `nic-gpu`: the digest of all results, templates of kernels, results.
  var processorPages: Int {
    configuration.workload == .nic ? 1 + completionSlots / 2 : 1 + 2 * kernels
  }

  func processor(_ number: Int) -> UInt64 { Page.address(connections * regionPages + number * processorPages) }
  func completions(_ processor: Int) -> UInt64 { self.processor(processor) + Page.bytes }
  func templates(_ processor: Int) -> UInt64 { self.processor(processor) + Page.bytes }
  func results(_ processor: Int) -> UInt64 { self.processor(processor) + Page.address(1 + kernels) }

  /// The connections of a processor.
  func connections(of processor: Int) -> [Int] {
    let first = processor / processorsPerNIC * configuration.connections
    return Array(
      stride(
        from: first + processor % processorsPerNIC, to: first + configuration.connections, by: processorsPerNIC))
  }

  var guestPages: Int { connections * regionPages + processors * processorPages }

  // MARK: A GPU's memory: the ring, flags, inputs, messages

  func flag(_ connection: Int) -> UInt64 { Page.address(kernels + connection) }
  func input(_ connection: Int) -> UInt64 {
    Page.address(kernels + configuration.connections + connection * dataPages)
  }
  func message(_ kernel: Int) -> UInt64 {
    Page.address(kernels + configuration.connections * (1 + dataPages) + kernel * messagePages)
  }
  var gpuPages: Int { kernels * (1 + messagePages) + configuration.connections * (1 + dataPages) }

  var gpuConfiguration: GPU.Configuration {
    GPU.Configuration(
      memoryPages: gpuPages, ringEntries: kernels,
      microsecondsPerWord: configuration.kernelMicrosecondsPerWord,
      arcMicroseconds: configuration.gpuArcMicroseconds ?? configuration.arcMicroseconds)
  }

  // MARK: What devices see

  func nicBAR(_ nic: Int) -> Int { guestPages + nic }
  func gpuBAR(_ gpu: Int) -> Int { guestPages + configuration.nics + gpu * (gpuPages + 1) }
  var devicePages: Int { firstWindow + (configuration.remapsBuffers ? connections * regionPages : 0) }

  /// Behind the BARs each page of a connection's region has a window of its own, through which devices see it while it is
  /// mapped there.
  var firstWindow: Int { gpuBAR(configuration.gpus) }

  /// Where a device is told that a connection's messages are to go, which are at that address in guest memory.
  func receiveAddress(_ address: UInt64) -> UInt64 {
    configuration.remapsBuffers ? Page.address(firstWindow) + address : address
  }

  /// Where devices see what is at an address behind a GPU's BAR.
  func seen(_ address: UInt64, of gpu: Int) -> UInt64 { Page.address(gpuBAR(gpu)) + address }

  /// Where a peer writes a connection's data.
  func buffer(_ connection: Int) -> UInt64 {
    guard configuration.workload == .nicGPU else { return region(connection) + data }
    let nic = connection / configuration.connections
    return seen(input(connection % configuration.connections), of: nic)
  }
}
