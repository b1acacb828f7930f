// SPDX-License-Identifier: Apache-2.0
#include "binary_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace kaldi_mpq {

BinaryFile::BinaryFile(const std::string& path) {
  const int handle = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (handle < 0 || fstat(handle, &status) != 0) {
    const std::string reason = std::strerror(errno);
    if (handle >= 0) close(handle);
    throw Fault("cannot read", "", "", reason);
  }
  size_ = status.st_size;
  if (size_ > 0) {
    void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, handle, 0);
    const std::string reason = std::strerror(errno);
    close(handle);
    if (mapped == MAP_FAILED) throw Fault("cannot read", "", "", reason);
    data_ = static_cast<const char*>(mapped);
  } else {
    close(handle);
  }
}

BinaryFile::~BinaryFile() {
  if (data_) munmap(const_cast<char*>(data_), size_);
}

}  // namespace kaldi_mpq
