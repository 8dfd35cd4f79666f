// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What can be done to a world from outside; it is in the digest under these numbers.
enum MachineAction: UInt8, Sendable {
  case startProcessors = 1
  case stopProcessors, setState, flush, reset, resetByGuest, fail
  case takeChangedRecords, load
  case setTracking, takeDirtyPages, setPage, loadState
  case setInboundLimit
  case loseDirtyLog, restartDirtyLog
}

/// What a host's kernel does with the machine's devices and processors there.
extension MachineWorld {
  /// The processors of a host go on.
  mutating func startProcessors(host: Int) {
    note(.startProcessors, host: host)
    drive(.startProcessors, host: host)
  }

  /// The processors of a host stop at once.
  mutating func stopProcessors(host: Int) {
    note(.stopProcessors, host: host)
    drive(.stopProcessors, host: host)
  }

  // MARK: States

  /// The state that a device is in, in truth.
  func state(host: Int, device: Int) -> MigrationState { machines[host].state(of: device) }

  /// A device's driver begins to take it to a state. A device has one command at a time, and one in ERROR never answers.
  mutating func setState(host: Int, device: Int, to state: MigrationState) {
    note(.setState, host: host, number: device, UInt64(state.rawValue))
    expectReached(host: host, device: device)
    drive(.setState(device: device, state), host: host)
  }

  /// Begins to read a device's configuration space.
  mutating func flush(host: Int, device: Int) {
    note(.flush, host: host, number: device)
    expectFlushed(host: host, device: device)
    drive(.flush(device: device), host: host)
  }

  /// The kernel resets a device, whose last descriptor was closed: it runs and is empty. A command that was under way is
  /// never answered.
  mutating func reset(host: Int, device: Int) {
    note(.reset, host: host, number: device)
    forgetCommands(host: host, device: device)
    drive(.reset(device: device), host: host)
  }

  /// On host 0 the guest resets a device, and its driver sets it up anew as far as it can without its peers: a NIC has no
  /// connections then, and a GPU nothing at all.
  mutating func resetByGuest(device: Int) {
    note(.resetByGuest, host: 0, number: device)
    guestResets[device] = true
    forgetCommands(host: 0, device: device)
    drive(.resetByGuest(device: device), host: 0)
  }

  /// A device enters ERROR at once. Only a reset brings it back.
  mutating func fail(host: Int, device: Int) {
    note(.fail, host: host, number: device)
    forgetCommands(host: host, device: device)
    drive(.fail(device: device), host: host)
  }

  /// For each NIC the longest time, in microseconds, in which it took part in the network on no host, with its
  /// connections; one that still lasts counts up to now.
  var outages: [UInt64] { networkTimes.outages(at: now) }

  // MARK: Images

  /// How many records a device's image has.
  func recordCount(host: Int, device: Int) -> Int {
    let nics = configuration.machine.nics
    return device < nics
      ? machines[host].nics[device].nic.recordCount : machines[host].gpus[device - nics].recordCount
  }

  /// A record of a device's image, as it is now.
  func record(_ index: Int, host: Int, device: Int) -> [UInt64] {
    let nics = configuration.machine.nics
    return device < nics
      ? machines[host].nics[device].nic.record(index) : machines[host].gpus[device - nics].record(index)
  }

  /// The records of a device that changed since they were last taken, in ascending order; all, where they never were.
  mutating func takeChangedRecords(host: Int, device: Int) -> [Int] {
    let nics = configuration.machine.nics
    let records =
      device < nics
      ? machines[host].nics[device].nic.takeChangedRecords().sorted()
      : machines[host].gpus[device - nics].takeChangedRecords()
    note(.takeChangedRecords, host: host, number: device, UInt64(records.count))
    return records
  }

  /// Loads a record into a device, which has to be in RESUMING. Where that fails, nothing has changed.
  mutating func load(_ index: Int, _ words: [UInt64], host: Int, device: Int) throws(DeviceImageError) {
    let nics = configuration.machine.nics
    note(.load, host: host, number: device, Self.digest(words, UInt64(truncatingIfNeeded: index)))
    guard state(host: host, device: device) == .resuming else { throw .notResuming }
    if device < nics {
      try machines[host].nics[device].nic.load(index, words)
    } else {
      try machines[host].gpus[device - nics].load(index, words)
    }
  }

  /// Whether everything was loaded that makes a whole image.
  func checkLoaded(host: Int, device: Int) throws(DeviceImageError) {
    let nics = configuration.machine.nics
    if device < nics {
      try machines[host].nics[device].nic.checkLoaded()
    } else {
      try machines[host].gpus[device - nics].checkLoaded()
    }
  }

  /// A digest of words, and of a number before them.
  static func digest(_ words: [UInt64], _ number: UInt64 = 0) -> UInt64 {
    var digest = RunDigest()
    digest.add(number)
    for word in words { digest.add(word) }
    return digest.value
  }
}
