// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What must hold while the machine moves. These look at the hosts' machines themselves, not at what sessions believe.
extension SimulatedWorld {
  /// Whether source and destination agree on who runs.
  var areAgreed: Bool { scenario.commits && scenario.link.isTwoWay }

  /// Something is broken.
  mutating func find(_ what: String?) {
    guard let what, findings.count < 20 else { return }
    findings.append("\(now.microseconds): \(what)")
  }

  /// Never two: a device of the machine may do something on one host only.
  mutating func watchForTwins() {
    guard let machines, findings.count < 20 else { return }
    changesSeen = machines.stateChanges.count
    for device in hosts[0].devices.indices {
      let (source, twin) = (hosts[0].devices[device], hosts[1].devices[device])
      guard source.isInUse, !isKilled[0], machines.state(host: 0, device: device).mayWriteMemory, twin.isInUse,
        twin.loadedDigest != nil, machines.state(host: 1, device: device).mayWriteMemory
      else { continue }
      find("device \(device) runs on both hosts")
    }
  }

  /// Every page that was written was sent: compares the memories at the moment at which the destination takes over.
  mutating func compareMemory() {
    guard let machines else { return }
    for page in 0..<machines.guestPages
    where machines.page(page, host: 0) != machines.page(page, host: 1) {
      find("guest page \(page) is not what it was on the source")
      return
    }
  }

  /// Numbers, keys, addresses, sequence numbers (DA1, DA2), and all else that an image says: compares a function with the one
  /// that it was saved from.
  mutating func compareFunction(_ device: Int) {
    // A call that hung may end when the source has long taken its device back.
    guard let machines, !isKilled[0], hosts[0].devices[device].isInUse, hosts[1].devices[device].isInUse,
      hosts[1].devices[device].loadedDigest != nil,
      !machines.state(host: 0, device: device).mayWriteMemory
    else { return }
    let count = machines.recordCount(host: 0, device: device)
    guard count == machines.recordCount(host: 1, device: device) else {
      return find("device \(device) has \(machines.recordCount(host: 1, device: device)) objects of \(count)")
    }
    for record in 0..<count
    where machines.record(record, host: 0, device: device) != machines.record(record, host: 1, device: device) {
      return find("device \(device): record \(record) of its image is not what it is on the source")
    }
  }
}
