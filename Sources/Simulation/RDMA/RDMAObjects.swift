// SPDX-License-Identifier: Apache-2.0

/// An object of a NIC: what it is, and where among those of its kind.
enum RDMAObject: Hashable, Sendable {
  case completionQueue(Int)
  case region(Int)
  case queuePair(Int)
}

/// Why a NIC does not make an object.
enum RDMACommandError: Error, Hashable, Sendable {
  case numberInUse
  case badParameter
  case unknownCompletionQueue
  case unknownQueuePair
}

// The commands with which a driver makes objects.
extension RDMANIC {
  private mutating func addRecord(_ object: RDMAObject) {
    objects.append(object)
    resources.changes.note(0)
    resources.changes.note(objects.count)
  }

  /// Makes a completion queue.
  mutating func makeCompletionQueue(
    _ number: UInt32, ring: RDMAQueuePairAttributes.Ring
  ) throws(RDMACommandError) {
    guard ring.isValid else { throw .badParameter }
    guard resources.completionQueue(number) == nil else { throw .numberInUse }
    add(RDMACompletionQueue(number: number, ring: ring))
  }

  /// Registers memory under a key.
  mutating func register(_ region: RDMAMemoryRegion) throws(RDMACommandError) {
    guard resources.region(region.key) == nil else { throw .numberInUse }
    add(region)
  }

  /// Makes a queue pair, in the state that it is given.
  mutating func makeQueuePair(_ attributes: RDMAQueuePairAttributes) throws(RDMACommandError) {
    guard attributes.isValid else { throw .badParameter }
    guard queuePairIndex[attributes.number] == nil else { throw .numberInUse }
    guard resources.completionQueue(attributes.sendCompletions) != nil,
      resources.completionQueue(attributes.receiveCompletions) != nil
    else { throw .unknownCompletionQueue }
    add(RDMAQueuePair(attributes, index: queuePairs.count, record: objects.count + 1))
  }

  /// Moves a queue pair on to a state, as a driver does while it connects.
  mutating func setState(
    _ state: RDMAQueuePairAttributes.State, of number: UInt32
  ) throws(RDMACommandError) {
    guard let index = queuePairIndex[number] else { throw .unknownQueuePair }
    guard state.rawValue > queuePairs[index].attributes.state.rawValue, state != .error else { throw .badParameter }
    queuePairs[index].attributes.state = state
    resources.changes.note(queuePairs[index].record)
  }

  mutating func add(_ queue: RDMACompletionQueue) {
    addRecord(.completionQueue(resources.completionQueues.count))
    resources.set(queue, record: objects.count)
  }

  mutating func add(_ region: RDMAMemoryRegion) {
    addRecord(.region(resources.regions.count))
    resources.set(region)
  }

  mutating func add(_ queuePair: RDMAQueuePair) {
    addRecord(.queuePair(queuePairs.count))
    queuePairIndex.set(queuePair.attributes.number, to: queuePairs.count)
    if queuePair.isBusy { resources.busyQueuePairs += 1 }
    queuePairs.append(queuePair)
  }

  /// A queue pair by its number; nil where there is none.
  func queuePair(_ number: UInt32) -> RDMAQueuePair? { queuePairIndex[number].map { queuePairs[$0] } }
}
