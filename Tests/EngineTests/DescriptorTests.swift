// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxIO
import Testing

@Suite("Descriptors")
struct DescriptorTests {
  @Test("a duplicate is the same open file, also one that came by a socket, and a second opening is not")
  func sameFile() throws {
    let file = try Descriptor.open("/dev/null", O_RDONLY)
    let duplicate = try file.duplicate()
    let again = try Descriptor.open("/dev/null", O_RDONLY)
    #expect(try file.isSameFile(as: duplicate))
    #expect(try !file.isSameFile(as: again))
    let (near, far) = try PacketSocket.pair()
    var buffer: [UInt8] = [1]
    try near.send(buffer.span, with: file)
    var span = buffer.mutableSpan
    guard case .packet(_, var descriptors) = try far.receive(into: &span), let sent = descriptors.first.take() else {
      Issue.record("nothing came")
      return
    }
    #expect(try file.isSameFile(as: sent))
    #expect(try !again.isSameFile(as: sent))
  }

  @Test("a process may have as many descriptors as it asks for, up to its hard limit; a limit is never lowered")
  func limit() async {
    await #expect(processExitsWith: .success) {
      let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
      var limit = rlimit()
      try #require(unsafe getrlimit(resource, &limit) == 0)
      limit.rlim_cur = min(200, limit.rlim_max)
      try #require(unsafe setrlimit(resource, &limit) == 0)
      #expect(ResourceLimit.descriptors.raise(to: UInt64(limit.rlim_max)) == UInt64(limit.rlim_max))
      #expect(ResourceLimit.descriptors.raise(to: 1) == UInt64(limit.rlim_max))
      var raised = rlimit()
      try #require(unsafe getrlimit(resource, &raised) == 0)
      #expect(raised.rlim_cur == limit.rlim_max && raised.rlim_max == limit.rlim_max)
    }
  }
}
