// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Why a VMM does not take a state.
enum VMMStateError: Error, Hashable, Sendable {
  /// It does not say where its parts end, or they are not there.
  case wrongLength
  /// The processors don't take theirs.
  case processors(VirtualCPUs.StateError)
  /// The IOMMU's mappings can't be those of this guest.
  case wrongMappings
}

/// What a host's VMM does: it moves guest memory, the processors' state and the IOMMU's mappings.
extension MachineWorld {
  /// Pages of guest memory.
  var guestPages: Int { machines[0].memory.pages }

  /// Turns on that it is noted which pages are written, or off. Either begins with nothing noted.
  mutating func setTracking(_ isOn: Bool, host: Int) {
    note(.setTracking, host: host, isOn ? 1 : 0)
    machines[host].setTracking(isOn)
  }

  /// The guest pages that were written since they were last taken, in ascending order: by devices, by processors, and through
  /// mappings that are gone by now.
  mutating func takeDirtyPages(host: Int) -> [Int] {
    let pages = machines[host].takeDirtyPages()
    note(.takeDirtyPages, host: host, UInt64(pages.count))
    return pages
  }

  /// What was noted of devices' writes and not taken is gone, and nothing more is noted.
  mutating func loseDirtyLog(host: Int) {
    note(.loseDirtyLog, host: host)
    machines[host].loseDirtyLog()
  }

  /// Devices' writes are noted again, and all pages count as written.
  mutating func restartDirtyLog(host: Int) {
    note(.restartDirtyLog, host: host)
    machines[host].restartDirtyLog()
  }

  /// Limits what comes in to a NIC of a host to so many packets in a millisecond (DA9), or lifts the limit. Of a GPU nothing
  /// is limited.
  mutating func setInboundLimit(_ packets: UInt64?, host: Int, device: Int) {
    note(.setInboundLimit, host: host, number: device, packets ?? 0)
    guard machines[host].nics.indices.contains(device) else { return }
    machines[host].nics[device].nic.setInboundLimit(
      packets.map { RDMAInboundLimit(packetsPerMillisecond: $0, burstPackets: max(4, $0 / 4)) })
  }

  /// The words of a guest page.
  func page(_ number: Int, host: Int) -> [UInt64] {
    Array(machines[host].memory.content.words[number * Page.words..<(number + 1) * Page.words])
  }

  /// Puts words into a guest page, as many as it has. It marks nothing.
  mutating func setPage(_ number: Int, _ words: [UInt64], host: Int) {
    note(.setPage, host: host, number: number, Self.digest(words))
    machines[host].memory[page: number] = Page(words)
  }

  /// What the VMM moves beside memory: the processors' state and the IOMMU's mappings; nil while processors run.
  func vmmState(host: Int) -> [UInt64]? {
    guard let processors = machines[host].processors.state else { return nil }
    return [UInt64(processors.count)] + processors + machines[host].iommu.mappings(of: VirtualMachine.domain)
  }

  /// Loads such a state. Where that fails, nothing has changed.
  mutating func loadVMMState(_ words: [UInt64], host: Int) throws(VMMStateError) {
    note(.loadState, host: host, Self.digest(words))
    try machines[host].load(state: words)
  }
}

extension VirtualMachine {
  /// Both logs, and what is left of mappings that went, begin anew.
  fileprivate mutating func setTracking(_ isOn: Bool) {
    iommu.setTracking(isOn, in: Self.domain)
    memory.takeProcessorDirty(into: &unmappedDirty)
    unmappedDirty.removeAll()
  }

  fileprivate mutating func loseDirtyLog() { iommu.setTracking(false, in: Self.domain) }

  fileprivate mutating func restartDirtyLog() {
    iommu.setTracking(true, in: Self.domain)
    unmappedDirty.insert(0..<layout.guestPages)
  }

  /// Puts both logs together, by what is in them.
  fileprivate mutating func takeDirtyPages() -> [Int] {
    iommu.readDirty(0..<layout.devicePages, in: Self.domain, clearing: true, into: &unmappedDirty)
    memory.takeProcessorDirty(into: &unmappedDirty)
    var pages: [Int] = []
    pages.reserveCapacity(unmappedDirty.count)
    while let page = unmappedDirty.takeFirst(from: pages.last ?? 0) { pages.append(page) }
    return pages
  }

  /// Takes a state, or nothing of it.
  fileprivate mutating func load(state words: [UInt64]) throws(VMMStateError) {
    guard let count = words.first.flatMap({ Int(exactly: $0) }), count < words.count else { throw .wrongLength }
    var loaded = processors
    do { try loaded.load(Array(words[1...count])) } catch { throw .processors(error) }
    let areLoaded = iommu.load(
      words[(1 + count)...], of: Self.domain, guestPages: layout.guestPages, nodes: fabric.shape.nodes.count)
    guard areLoaded else { throw .wrongMappings }
    processors = loaded
  }
}

extension Page {
  /// A page of those words; what is too much is left out, and what is missing is 0.
  fileprivate init(_ words: [UInt64]) {
    self = .empty
    for (index, word) in words.prefix(Page.words).enumerated() { content[index] = word }
  }
}
